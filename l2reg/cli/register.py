"""``l2reg register``: register one scan to another; any two files."""

import argparse
import sys
import time
from pathlib import Path

from l2reg.cli.datasets import add_device_argument
from l2reg.config.presets import CHALLENGE_TASKS

FLAGGED = 3  # exit status


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("fixed", type=Path, help="NIfTI volume to register to")
    parser.add_argument("moving", type=Path, help="NIfTI volume to be warped")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument(
        "--like",
        choices=CHALLENGE_TASKS,
        default="abdomen",
        help="abdomen: any two scans (default); lung: two CT; oasis: two MR of one sequence",
    )
    parser.add_argument(
        "--prealign",
        choices=("auto", "none", "translation", "rigid", "affine"),
        default="auto",
        help="where to start: auto searches for a rigid map and keeps it if it fits clearly better "
        "than the headers (default); none follows the headers",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="exit with status 3 if anything suggests that the result is wrong",
    )
    add_device_argument(parser)


def run(options: argparse.Namespace) -> None:
    """Register, and print the files written, the verdict and the runtime in seconds."""
    from l2reg.registration.register import register
    from l2reg.runtime import configure_malloc

    configure_malloc()
    begin = time.perf_counter()
    result = register(
        options.fixed,
        options.moving,
        options.out,
        preset=options.like,
        device=options.device,
        prealign=options.prealign,
    )
    for path in (result.warped, result.transform, result.picture, result.report):
        print(path)
    print(result.verdict)
    for flag in result.verdict.flags:
        print(f"!!! {flag}")
    print(f"{time.perf_counter() - begin:.1f} s")
    if options.strict and result.verdict.flags:
        sys.exit(FLAGGED)
