"""``l2reg check-submission``: list all faults for which the organisers would refuse a zip."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from l2reg.cli.datasets import open_dataset, tasks_below
from l2reg.config.build import build
from l2reg.config.presets import CHALLENGE_TASKS, load_preset
from l2reg.problems import raise_if_any
from l2reg.wording import quantity

if TYPE_CHECKING:
    from l2reg.data.task import Task


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("zip", type=Path, help="the submission, of one task or of several")
    parser.add_argument(
        "--task", choices=CHALLENGE_TASKS, required=True, help="task whose fields are checked"
    )
    parser.add_argument(
        "--data",
        type=Path,
        help="data root; the field convention is then checked against the images",
    )
    parser.add_argument("--split", choices=("val", "test"), default="val")
    parser.add_argument(
        "--rules",
        choices=("2021", "current"),
        default="2021",
        help="2021 (default): half resolution, .npz; current: full resolution, .nii.gz",
    )


def run(options: argparse.Namespace) -> None:
    """Print warnings, then all faults; exit with 1 if there is any fault."""
    from l2reg.submission.convention_check import convention_warnings
    from l2reg.submission.export import check_grid
    from l2reg.submission.format_check import check_submission
    from l2reg.submission.numbering import official_names, pair_names
    from l2reg.submission.rules import RULES

    rules = RULES[options.rules]
    if options.data is None:
        task: Task = build(load_preset("task", options.task))
        if rules.full_resolution:
            task = replace(task, shape=task.layouts["current"].shape or task.shape)
        names = official_names(task, options.split, rules)
    else:
        data = open_dataset(tasks_below(options.data, options.task)[0], options.data)
        task, pairs = data.release.task, data.split_pairs(options.split)
        check_grid(task, rules)
        names = pair_names(pairs, task, rules)
    result = check_submission(options.zip, task, names, rules)
    warnings = result.warnings
    if options.data is not None and not result.faults:
        warnings += convention_warnings(options.zip, pairs, data.reader("half"), rules)
    for warning in warnings:
        print(f"warning: {warning}")
    raise_if_any(result.faults)
    n_fields = len(names.by_release[names.expected])
    print(f"{options.zip}: {quantity(n_fields, 'field')} of task {task.name}, no format fault")
