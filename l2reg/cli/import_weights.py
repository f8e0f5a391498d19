"""``l2reg import-weights``: make a checkpoint of published LapIRN weights."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("file", type=Path, help="the authors' .pth file of all three levels")
    parser.add_argument(
        "--model",
        choices=("lapirn", "clapirn"),
        required=True,
        help="clapirn: the conditional network",
    )
    parser.add_argument(
        "--head",
        choices=("displacement", "velocity"),
        help="what the last layer means; default: by disp or diff in the file's name",
    )
    parser.add_argument("--out", type=Path, required=True, help="run folder to write: ckpt=OUT")


def run(options: argparse.Namespace) -> None:
    """Write the run folder, and print how to predict and train on with it."""
    from l2reg.checkpoints.published_weights import import_weights
    from l2reg.config.presets import load_preset

    node = import_weights(options.file, options.model, options.head, options.out)
    preset = load_preset("model", "lapirn")
    keys = {key: value for key, value in node.items() if value != preset[key]}
    keys = {f"model.{key}": str(value).lower() for key, value in keys.items()}
    changed = " ".join(f"{key}={value}" for key, value in keys.items())
    print(f"predict: l2reg predict ckpt={options.out}")
    print(
        f"train on: l2reg train task=oasis model={options.model} {changed} "
        f"trainer.stages=false init_from={options.out}"
    )
