"""``l2reg bundle``: join the fields of several tasks into one submission zip."""

import argparse
from pathlib import Path

from l2reg.wording import quantity


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "sources", nargs="+", type=Path, help="zips or folders that l2reg predict wrote"
    )
    parser.add_argument("--out", type=Path, required=True, help="the zip to write")


def run(options: argparse.Namespace) -> None:
    """Write the zip, and print the number of its fields for each task."""
    from l2reg.submission.bundle import join_bundles

    for folder, count in join_bundles(options.sources, options.out).items():
        print(f"{folder}: {quantity(count, 'field')}")
    print(f"{options.out}: check it with: l2reg check-submission {options.out} --task ...")
