"""``l2reg runs``: list the training runs in a folder."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path("runs"), help="folder of runs; default: runs"
    )


def run(options: argparse.Namespace) -> None:
    """Print the table."""
    from l2reg.training.run_table import run_table

    print(run_table(options.folder))
