"""``l2reg check``: list all that is wrong with a data set."""

import argparse
from pathlib import Path

from l2reg.cli.datasets import add_data_argument, open_dataset, tasks_below
from l2reg.config.presets import CHALLENGE_TASKS
from l2reg.problems import InputError, Problem, raise_if_any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_data_argument(parser)
    parser.add_argument(
        "--task", choices=CHALLENGE_TASKS, help="this task alone; default: all that are there"
    )
    parser.add_argument("--layout", default="auto", help="auto, 2021 or current")
    parser.add_argument("--pairs", type=Path, help="another list of pairs, as pairs_val.csv is one")


def run(options: argparse.Namespace) -> None:
    """Print the problems of every task below a root; exit with 1 if there is any."""
    from l2reg.data.check import check_dataset

    problems: list[Problem] = []
    not_found: list[InputError] = []
    tasks = tasks_below(options.data, options.task)
    for task in tasks:
        data = open_dataset(task, options.data, layout=options.layout, pairs=options.pairs)
        try:
            folder = data.release.folder
        except InputError as error:
            not_found.append(error)
            continue
        found = check_dataset(data)
        training = data.training_set
        intra, single = len(training.intra_patient), len(training.scans)
        counts = f"{intra} pairs and {single} single scans to train on"
        n_val = len(data.split_pairs("val"))
        print(f"task {task.name}: {folder}")
        print(f"  {n_val} validation pairs, {counts}, {len(found)} problems")
        problems += found
    if len(not_found) == len(tasks):
        raise InputError(problem for error in not_found for problem in error.problems)
    raise_if_any(problems)
    print("no problems")
