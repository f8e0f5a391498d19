"""Several tasks in one run, in turn, each with its own data, grid and loss (docs/decisions/0005).

The trainer knows nothing of it: a batch says which task it is of, and the objective listens.
"""

import math
from collections.abc import Mapping

import torch
from matplotlib.figure import Figure
from torch import nn

from l2reg.batch import Batch
from l2reg.models.prediction import Prediction
from l2reg.shapes import Scalar
from l2reg.training.trainer import Batches
from l2reg.training.validation import Validation


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
