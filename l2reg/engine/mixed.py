"""Several tasks in one run, in turn, each with its own data, grid and loss (docs/decisions/0005).

The trainer knows nothing of it: a batch says which task it is of, and the objective listens.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import nn

from l2reg.engine.trainer import Batches
from l2reg.engine.validation import Validation
from l2reg.models.prediction import Prediction
from l2reg.problems import InputError, Problem
from l2reg.shapes import Batch, Scalar


class MixedBatches:
    """Batches of several tasks in turn: step n is of task n modulo their number.

    Args:
        tasks: Batches of every task, by name.
    """

    def __init__(self, tasks: Mapping[str, Batches]) -> None:
        self.tasks = list(tasks.values())

    def __getitem__(self, step: int) -> Batch:
        """Return the batch of ``step``; ``task``, ``(b,)``, is the place of its task."""
        place = step % len(self.tasks)
        batch = self.tasks[place][step]
        return {**batch, "task": torch.full((len(batch["fixed"]),), place)}


class MixedObjective(nn.Module):
    """The objective of the task that a batch is of.

    Args:
        tasks: Objectives of every task, by name, in the order of ``MixedBatches``.
    """

    def __init__(self, tasks: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.tasks = nn.ModuleDict(tasks)

    def forward(self, prediction: Prediction, batch: Batch) -> dict[str, Scalar]:
        """Return the weighted terms, as ``<task>/<term>``."""
        name = list(self.tasks)[int(batch["task"][0])]
        terms: dict[str, Scalar] = self.tasks[name](prediction, batch)
        return {f"{name}/{term}": value for term, value in terms.items()}


class MixedValidation:
    """Scores every task, and chooses no best model: Dice and millimetres do not add up.

    Args:
        tasks: Validations of every task, by name.
    """

    def __init__(self, tasks: Mapping[str, Validation]) -> None:
        self.tasks = tasks

    def score(self) -> tuple[dict[str, float], float]:
        """Return ``val/<task>/<metric>`` means, and that nothing can be said of the whole."""
        scores: dict[str, float] = {}
        for name, validation in self.tasks.items():
            own, _ = validation.score()
            scores |= {key.replace("val/", f"val/{name}/", 1): v for key, v in own.items()}
        return scores, math.nan

    def draw(self) -> Figure:
        """Return a picture of the first pair of the first task."""
        return next(iter(self.tasks.values())).draw()


def tasks_of(config: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """Return the nodes ``task``, ``data`` and ``loss`` of every task of a run, by its name."""
    if config.get("mixed"):
        tasks: Mapping[str, Mapping[str, Any]] = config["mixed"]["tasks"]
        return tasks
    return {"": config}


def of_one_task(config: Mapping[str, Any], name: str | None) -> dict[str, Any]:
    """Return the config of a run as if it had been of one task alone.

    Args:
        config: Of a run, mixed or not; one that is not mixed is returned as it is.
        name: Which task of a mixed run.

    Raises:
        InputError: If the run is mixed and has no such task.
    """
    if not config.get("mixed"):
        return dict(config)
    tasks = tasks_of(config)
    if name is None or name not in tasks:
        found = f"task={name}" if name else "no task"
        expected = "one of " + ", ".join(f"task={task}" for task in tasks)
        remedy = f"add task={next(iter(tasks))}, or another of these"
        where = "a checkpoint of mixed tasks"
        raise InputError(Problem(where, "needs to know the task", expected, found, remedy))
    return {**config, **tasks[name], "mixed": None}


def check_names(only: Sequence[str], known: Sequence[str]) -> None:
    """Refuse a list of tasks that cannot be mixed.

    Args:
        only: What ``mixed.only`` names.
        known: Tasks there are.

    Raises:
        InputError: If it is empty, or a name is unknown or stands there twice.
    """
    if only and set(only) <= set(known) and len(set(only)) == len(only):
        return
    expected = f"different tasks out of {', '.join(known)}"
    found = ", ".join(only) or "none"
    raise InputError(
        Problem("mixed.only", "cannot be mixed", expected, found, "mixed.only=[abdomen,lung,oasis]")
    )
