"""``l2reg register``: register one scan to another; any two files."""

import argparse
import time
from pathlib import Path

from l2reg.cli.datasets import add_device_argument
from l2reg.config.presets import CHALLENGE_TASKS


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
    add_device_argument(parser)


def run(options: argparse.Namespace) -> None:
    """Register, and print the files written and the runtime in seconds."""
    from l2reg.registration.register import register
    from l2reg.runtime import configure_malloc

    configure_malloc()
    begin = time.perf_counter()
    files = register(
        options.fixed, options.moving, options.out, preset=options.like, device=options.device
    )
    for path in (files.warped, files.transform, files.picture):
        print(path)
    print(f"{time.perf_counter() - begin:.1f} s")
