"""``l2reg plan``: propose how to train on one's own data, and estimate memory and time."""

import argparse
import re
from pathlib import Path

from l2reg.cli.datasets import add_device_argument, add_table_arguments, positive_int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("table", type=Path, help="CSV file of pairs or scans: docs/own_data.md")
    add_table_arguments(parser)
    parser.add_argument(
        "--out", type=Path, default=Path("plans"), help="folder to write to, default plans/"
    )
    parser.add_argument(
        "--max-voxels", type=positive_int, help="largest number of voxels of the grid of a pair"
    )
    parser.add_argument("--no-dry-run", action="store_true", help="take no training step")
    add_device_argument(parser)


def run(options: argparse.Namespace) -> None:
    """Print the facts, the settings with their reasons and the cost; write the experiment."""
    from dataclasses import replace

    from l2reg.cli.datasets import open_table
    from l2reg.config.build import build
    from l2reg.own_data.check import own_problems
    from l2reg.planning.complete import plan_data
    from l2reg.planning.plan import write_plan
    from l2reg.problems import raise_if_any
    from l2reg.runtime import select_device

    data = open_table(options.table, options.coordinates, options.start)
    raise_if_any(own_problems(data, data.table.rows))
    plan, facts = plan_data(data, options.device, options.max_voxels)
    for line in [*facts.lines(), "", *plan.reasons]:
        print(line)
    size = " x ".join(map(str, plan.shape))
    spacing = " x ".join(f"{mm:g}" for mm in plan.spacing_mm)
    print(f"grid of a pair: {size} voxels of {spacing} mm")
    if not options.no_dry_run:
        from l2reg.planning.dry_run import describe_step

        task = replace(data.task, shape=plan.shape, spacing_mm=plan.spacing_mm,
                       intensity=build(plan.task["intensity"], "intensity"))  # fmt: skip
        planned = replace(data, task=task, start=plan.start)
        print(describe_step(planned, plan, select_device(options.device)))
    name = re.sub(r"\W+", "_", options.table.stem) or "own"
    path = options.out / "experiment" / f"{name}.yaml"
    write_plan(path, plan, facts, options.table, options.coordinates)
    print(f"written to {path}; train by it with:")
    print(f"l2reg train --config-dir {options.out} experiment={name}")
