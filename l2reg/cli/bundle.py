"""``l2reg bundle``: zip the fields of several tasks as one submission."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("sources", nargs="+", type=Path, help="zips or folders of predict.py")
    parser.add_argument("--out", type=Path, required=True, help="the zip to write")


def run(options: argparse.Namespace) -> None:
    """Write the zip, and print how many fields of each task it holds."""
    from l2reg.submission.bundle import join_bundles

    for folder, count in join_bundles(options.sources, options.out).items():
        print(f"{folder}: {count} fields")
    print(f"{options.out}: check it with: l2reg check-submission {options.out} --task ...")
