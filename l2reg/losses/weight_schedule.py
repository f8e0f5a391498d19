"""Weights of loss terms over the steps: pure functions of the step, with nothing to store."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

SHAPES = ("linear", "cosine")
_KEYS = ("from", "to", "steps", "shape")


@dataclass(frozen=True)
class WeightSchedule:
    """A weight that goes from one value to another, and stays there.

    Attributes:
        first: Weight of step 0, 0 or more.
        last: Weight from step ``steps`` on, 0 or more.
        steps: Number of steps of the change, 1 or more.
        shape: ``linear``, or ``cosine`` for half a cosine, which starts and ends slowly.
    """

    first: float
    last: float
    steps: int
    shape: str

    def at(self, step: int) -> float:
        """Return the weight of ``step``, counted from 0."""
        progress = min(1.0, step / self.steps)
        if self.shape == "cosine":
            progress = (1 - math.cos(math.pi * progress)) / 2
        return self.first + (self.last - self.first) * progress


@runtime_checkable
class ScheduledLoss(Protocol):
    """An objective whose weights change over the steps."""

    def set_step(self, step: int) -> None:
        """Choose the weights of a training step, counted from 0; the trainer calls it before."""
        ...

    def scheduled_weights(self) -> dict[str, float]:
        """Return the present weights of the terms that have a schedule."""
        ...


def weight_schedule(name: str, weight: Any) -> WeightSchedule:
    """Return the schedule of a weight of the config.

    Args:
        name: Name of the term, for errors.
        weight: A number, for a weight that never changes; or ``{from: A, to: B, steps: N}`` with
            the optional key ``shape``.

    Raises:
        ValueError: If it is neither, or a value is out of its range.
    """
    if isinstance(weight, int | float) and not isinstance(weight, bool):
        return WeightSchedule(_check_weight(name, weight), float(weight), 1, SHAPES[0])
    if not isinstance(weight, Mapping) or not {*_KEYS[:3]} <= {*weight} <= {*_KEYS}:
        raise ValueError(
            f"weights.{name} must be a number or {{from: A, to: B, steps: N, shape: linear}}, got "
            f"{weight}"
        )
    steps, shape = weight["steps"], weight.get("shape", SHAPES[0])
    if not (isinstance(steps, int) and steps >= 1 and shape in SHAPES):
        raise ValueError(
            f"weights.{name} needs steps of 1 or more and a shape of {', '.join(SHAPES)}, got "
            f"{steps} and {shape}"
        )
    return WeightSchedule(
        _check_weight(name, weight["from"]), _check_weight(name, weight["to"]), steps, shape
    )


def _check_weight(name: str, weight: Any) -> float:
    is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
    if not (is_number and weight >= 0 and math.isfinite(weight)):
        raise ValueError(f"loss weights must be 0 or more, got {weight} for {name}")
    return float(weight)
