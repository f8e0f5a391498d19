"""``l2reg phantom``: write synthetic, anatomy-like data with a known true field."""

import argparse
from pathlib import Path

from l2reg.config.presets import CHALLENGE_TASKS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "--flavour", choices=CHALLENGE_TASKS, required=True, help="task that the data imitate"
    )
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    parser.add_argument(
        "--pairs", type=int, default=16, help="number of pairs; a quarter of them is for validation"
    )
    parser.add_argument(
        "--size",
        choices=("small", "full"),
        default="small",
        help="small (default), or full: the official grid",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="random seed; another seed gives other patients"
    )


def run(options: argparse.Namespace) -> None:
    """Write the data set."""
    from l2reg.phantom.make import make_phantom

    make_phantom(
        options.flavour,
        options.out,
        n_pairs=options.pairs,
        size=options.size,
        seed=options.seed,
    )
    print(f"{options.out}: check it with: l2reg check {options.out}")
