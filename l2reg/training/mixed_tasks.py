"""Mixed tasks: several tasks in one run, in turn, each with its own data, grid and loss.

A batch carries the index of its task, by which the objective selects the loss; the trainer is the
same as for one task (docs/decisions/0005).
"""

import math
from collections.abc import Mapping

import torch
from matplotlib.figure import Figure
from torch import nn

from l2reg.batch import Batch
from l2reg.losses.weight_schedule import ScheduledLoss
from l2reg.models.prediction import Prediction
from l2reg.shapes import Scalar
from l2reg.training.prefetch import Batches
from l2reg.training.validation import Score


class MixedBatches:
    """Batches of several tasks in turn: step n is of task n modulo the number of tasks.

    Args:
        tasks: The batches of every task, by name.
    """

    def __init__(self, tasks: Mapping[str, Batches]) -> None:
        self.tasks = list(tasks.values())

    def __getitem__(self, step: int) -> Batch:
        """Return the batch of ``step``; its entry ``task``, ``(b,)``, is the index of its task."""
        index = step % len(self.tasks)
        batch = self.tasks[index][step]
        return {**batch, "task": torch.full((len(batch["fixed"]),), index)}


class MixedObjective(nn.Module):
    """Objective of a mixed run: that of the task which a batch belongs to.

    Args:
        tasks: The objective of every task, by name, in the order of ``MixedBatches``.
    """

    def __init__(self, tasks: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.tasks = nn.ModuleDict(tasks)

    def set_step(self, step: int) -> None:
        """Choose the weights of a training step, counted from 0."""
        for task in self._schedules().values():
            task.set_step(step)

    def scheduled_weights(self) -> dict[str, float]:
        """Return the present weights that change over the steps, named ``<task>/<term>``."""
        return {
            f"{name}/{term}": weight
            for name, task in self._schedules().items()
            for term, weight in task.scheduled_weights().items()
        }

    def _schedules(self) -> dict[str, ScheduledLoss]:
        return {n: task for n, task in self.tasks.items() if isinstance(task, ScheduledLoss)}

    def forward(self, prediction: Prediction, batch: Batch) -> dict[str, Scalar]:
        """Return the weighted loss terms, named ``<task>/<term>``."""
        name = list(self.tasks)[int(batch["task"][0])]
        terms: dict[str, Scalar] = self.tasks[name](prediction, batch)
        return {f"{name}/{term}": value for term, value in terms.items()}


class MixedValidation:
    """Scores every task, and selects no best model: Dice and millimetres do not add up.

    Args:
        tasks: The validation of every task, by name.
    """

    def __init__(self, tasks: Mapping[str, Score]) -> None:
        self.tasks = tasks

    def score(self) -> tuple[dict[str, float], float]:
        """Return the means ``val/<task>/<metric>``, and a quality that is not a number."""
        scores: dict[str, float] = {}
        for name, validation in self.tasks.items():
            own, _ = validation.score()
            scores |= {key.replace("/", f"/{name}/", 1): v for key, v in own.items()}
        return scores, math.nan

    def draw(self) -> Figure:
        """Return a figure of the first pair of the first task."""
        return next(iter(self.tasks.values())).draw()
