"""``l2reg export``: write a trained model as safetensors, with a model card."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("run", type=Path, help="run folder (its best model) or checkpoint file")
    parser.add_argument(
        "--out", type=Path, required=True, help="new folder to write, which l2reg predict takes"
    )
    parser.add_argument(
        "--license",
        default="unknown",
        metavar="ID",
        help="licence of the weights for the card, such as cc-by-4.0; default: unknown",
    )


def run(options: argparse.Namespace) -> None:
    """Write the folder, and print how to predict with it."""
    from l2reg.checkpoints.model_card import export_model

    keys = export_model(options.run, options.out, options.license)
    print(f"predict: l2reg predict {keys}")
