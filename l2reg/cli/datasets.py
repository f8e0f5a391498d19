"""Data sets and devices on the command line: options that several commands share."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from l2reg.config.build import build
from l2reg.config.presets import CHALLENGE_TASKS, load_preset
from l2reg.problems import InputError, Problem

if TYPE_CHECKING:
    from l2reg.data.dataset import Dataset
    from l2reg.data.task import Task
    from l2reg.own_data.dataset import OwnDataset


def add_data_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option of the data root."""
    parser.add_argument(
        "data",
        nargs="?",
        type=Path,
        default=os.environ.get("L2REG_DATA", "data"),
        help="data root, default $L2REG_DATA or data/",
    )


def add_one_task_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options data root, task and device of a command for one task."""
    add_data_argument(parser)
    parser.add_argument("--task", choices=CHALLENGE_TASKS, help="not needed for a phantom")
    add_device_argument(parser)


def add_device_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option of the device."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")


def add_table_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of a table of one's own scans."""
    parser.add_argument(
        "--coordinates", choices=("ras", "lps", "voxels"), help="of the points of a table"
    )
    parser.add_argument(
        "--start",
        choices=("headers", "centres"),
        default="headers",
        help="where the scans of a pair of a table lie at first, default headers",
    )


def positive_int(text: str) -> int:
    """Return an argument as an integer of 1 or more."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, got {number}")
    return number


def tasks_below(root: Path, task: str | None) -> "list[Task]":
    """Return the tasks to open below a data root.

    Args:
        root: Data root; for a phantom, its manifest alone gives the task.
        task: Name of a task, or ``None`` for all tasks.
    """
    from l2reg.phantom.make import MANIFEST, phantom_task, read_manifest

    if (root / MANIFEST).is_file():
        return [phantom_task(**read_manifest(root), root=root)]
    names = [task] if task else CHALLENGE_TASKS
    return [build(load_preset("task", name)) for name in names]


def open_dataset(
    task: "Task", root: Path, *, layout: str = "auto", pairs: Path | None = None
) -> "Dataset":
    """Return the data set of a task below a data root, without a cache."""
    node = load_preset("data", "default") | {
        "root": str(root),
        "layout": layout,
        "pairs": pairs,
        "cache": None,
    }
    data: Dataset = build(node, task=task)
    return data


def open_table(table: Path, coordinates: str | None, start: str) -> "OwnDataset":
    """Return the data set of a table of one's own scans, without a cache."""
    from l2reg.planning.complete import unplanned_task

    node = load_preset("data", "own") | {
        "pairs": str(table),
        "coordinates": coordinates,
        "start": start,
        "seed": 0,
        "cache": None,
    }
    data: OwnDataset = build(node, task=unplanned_task())
    return data


def open_one_task(root: Path, task: str | None) -> "Dataset":
    """Return the data set of a named task, or of a phantom.

    Raises:
        InputError: If ``task`` is ``None`` and the root is not a phantom.
    """
    tasks = tasks_below(root, task)
    if len(tasks) > 1:
        raise InputError(
            Problem(
                where="--task",
                what="is missing",
                expected=", ".join(CHALLENGE_TASKS),
                found="no task",
                remedy="add --task abdomen",
            )
        )
    return open_dataset(tasks[0], root)
