"""``l2reg check``: list all problems of a data set."""

import argparse
from pathlib import Path

from l2reg.cli.datasets import (
    add_data_argument,
    add_table_arguments,
    open_dataset,
    open_table,
    tasks_below,
)
from l2reg.config.presets import CHALLENGE_TASKS
from l2reg.problems import InputError, Problem, raise_if_any
from l2reg.wording import quantity


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_data_argument(parser)
    parser.add_argument(
        "--task", choices=CHALLENGE_TASKS, help="check only this task; default: all tasks found"
    )
    parser.add_argument("--layout", default="auto", help="auto, 2021 or current")
    parser.add_argument(
        "--pairs", type=Path, help="another list of pairs, in the form of pairs_val.csv"
    )
    add_table_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Print the problems of every task below the data root; exit with 1 if there is any.

    A CSV file in place of the root is a table of one's own scans.

    Headers that disagree within a task, and points that fit better under another convention, are
    warnings, which do not change the exit code.
    """
    if options.data is not None and Path(options.data).suffix.lower() == ".csv":
        check_table(options)
        return
    from l2reg.data.check import check_dataset, compare_headers, compare_points

    problems: list[Problem] = []
    n_warnings = 0
    missing: list[InputError] = []
    tasks = tasks_below(options.data, options.task)
    for task in tasks:
        data = open_dataset(task, options.data, layout=options.layout, pairs=options.pairs)
        try:
            folder = data.release.folder
        except InputError as error:
            missing.append(error)
            continue
        problems_of_task = check_dataset(data)
        training = data.training_set
        intra, single = len(training.intra_patient), len(training.scans)
        counts = f"{quantity(intra, 'pair')} and {quantity(single, 'single scan')} to train on"
        n_val = len(data.split_pairs("val"))
        print(f"task {task.name}: {folder}")
        found = quantity(len(problems_of_task), "problem")
        print(f"  {quantity(n_val, 'validation pair')}, {counts}, {found}")
        warnings = compare_headers(data) + compare_points(data)
        for warning in warnings:
            print(f"warning: {warning}")
        n_warnings += len(warnings)
        problems += problems_of_task
    if len(missing) == len(tasks):
        raise InputError(problem for error in missing for problem in error.problems)
    raise_if_any(problems)
    print(f"no problems, {quantity(n_warnings, 'warning')}" if n_warnings else "no problems")


def check_table(options: argparse.Namespace) -> None:
    """Print the splits, the problems and the warnings of a table of one's own scans."""
    from dataclasses import replace

    from l2reg.own_data.check import duplicate_images, own_problems, own_warnings
    from l2reg.problems import group_by_kind

    data = open_table(Path(options.data), options.coordinates, options.start)
    table = data.table
    problems = own_problems(data, table.rows)
    warnings: list[Problem] = []
    splits = None
    try:
        splits = replace(data, val_fraction=0.0).splits
        splits = data.splits
        problems += duplicate_images(data)
    except InputError as error:  # too few to train on may be enough to predict
        (problems if splits is None else warnings).extend(error.problems)
    if splits is not None:
        counts = ", ".join(f"{len(each)} {name}" for name, each in splits.rows.items() if each)
        what = quantity(len(table.rows), "pair" if table.paired else "single scan")
        print(f"{table.path}: {what}: {counts}; {quantity(len(problems), 'problem')}")
        for line in splits.said:
            print(f"  {line}")
    raise_if_any(problems)
    warnings += group_by_kind(own_warnings(data, table.rows))
    for warning in warnings:
        print(f"warning: {warning}")
    print(f"no problems, {quantity(len(warnings), 'warning')}" if warnings else "no problems")
