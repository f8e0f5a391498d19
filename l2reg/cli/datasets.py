"""Options of several commands: the data of a task, and the device."""

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from l2reg.config.build import build
from l2reg.config.presets import CHALLENGE_TASKS, load_preset
from l2reg.problems import InputError, Problem

if TYPE_CHECKING:
    from l2reg.data.dataset import Dataset
    from l2reg.data.task import Task


def add_data_argument(parser: argparse.ArgumentParser) -> None:
    """Add the data root."""
    parser.add_argument(
        "data",
        nargs="?",
        type=Path,
        default=os.environ.get("L2REG_DATA", "data"),
        help="data root, default $L2REG_DATA or data/",
    )


def add_one_task_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the data root, the task and the device of a command that works on one task."""
    add_data_argument(parser)
    parser.add_argument("--task", choices=CHALLENGE_TASKS, help="not needed for a phantom")
    add_device_argument(parser)


def add_device_argument(parser: argparse.ArgumentParser) -> None:
    """Add the device."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")


def positive(text: str) -> int:
    """Return a whole number of 1 or more."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, got {number}")
    return number


def tasks_below(root: Path, task: str | None) -> "list[Task]":
    """Return the task of that name or, without one, all; of a phantom, the one of its manifest."""
    from l2reg.phantom.make import MANIFEST, phantom_task

    manifest = root / MANIFEST
    if manifest.is_file():
        described = json.loads(manifest.read_text(encoding="utf-8"))
        return [phantom_task(**described, root=root)]
    names = [task] if task else CHALLENGE_TASKS
    return [build(load_preset("task", name)) for name in names]


def open_dataset(
    task: "Task", root: Path, *, layout: str = "auto", pairs: Path | None = None
) -> "Dataset":
    """Return the data set of a task below a root, without a cache."""
    node = load_preset("data", "default") | {
        "root": str(root),
        "layout": layout,
        "pairs": pairs,
        "cache": None,
    }
    data: Dataset = build(node, task=task)
    return data


def open_one_task(root: Path, task: str | None) -> "Dataset":
    """Return the data set of the task of that name, or of a phantom.

    Raises:
        InputError: If neither a task is named nor the root a phantom.
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
