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
    parser.add_argument(
        "--torch-export",
        action="store_true",
        help="also write the network as a program of torch.export, which runs without l2reg on a "
        "CPU, for scans on the grid that its card names; takes up to a few minutes",
    )
    parser.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="with --torch-export, your own package or module whose classes the checkpoint may "
        "name; may be repeated",
    )


def run(options: argparse.Namespace) -> None:
    """Write the folder, and print how to predict with it."""
    from l2reg.checkpoints.model_card import export_model

    keys = export_model(
        options.run,
        options.out,
        options.license,
        as_program=options.torch_export,
        trust=options.trust,
    )
    print(f"predict: l2reg predict {keys}")
