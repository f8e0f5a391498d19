"""Learning rate schedules: pure functions of (step, max_steps), so there is nothing to store."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@runtime_checkable
class Schedule(Protocol):
    """The learning rate over the steps of a run."""

    def factor(self, step: int, max_steps: int) -> float:
        """Return the factor of the learning rate at ``step``, counted from 0; in (0, 1]."""
        ...


@dataclass(frozen=True, kw_only=True)
class PiecewiseConstant:
    """A constant learning rate in each of several equal parts of a run.

    Attributes:
        factors: Learning rate of each part, as a fraction of the highest, in (0, 1].
    """

    factors: Sequence[float]

    def __post_init__(self) -> None:
        if not self.factors or not all(0 < factor <= 1 for factor in self.factors):
            raise ValueError(f"factors must be one or more numbers in (0, 1], got {self.factors}")

    def factor(self, step: int, max_steps: int) -> float:
        """Return the factor of the learning rate at ``step``, counted from 0; in (0, 1]."""
        part = step * len(self.factors) // max_steps
        return self.factors[min(part, len(self.factors) - 1)]


@dataclass(frozen=True, kw_only=True)
class WarmupCosine:
    """Linear warm-up to the highest learning rate, then half a cosine down to ``min_factor``.

    Attributes:
        warmup: Fraction of all steps that are warm-up.
        min_factor: Final learning rate, as a fraction of the highest.
    """

    warmup: float
    min_factor: float

    def __post_init__(self) -> None:
        if not (0 <= self.warmup < 1 and 0 <= self.min_factor <= 1):
            raise ValueError(
                "need 0 <= warmup < 1 and 0 <= min_factor <= 1, "
                f"got {self.warmup}, {self.min_factor}"
            )

    def factor(self, step: int, max_steps: int) -> float:
        """Return the factor of the learning rate at ``step``, counted from 0; in (0, 1]."""
        warmup_steps = round(self.warmup * max_steps)
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        progress = (step - warmup_steps) / max(1, max_steps - warmup_steps)
        return self.min_factor + (1 - self.min_factor) * (1 + math.cos(math.pi * progress)) / 2
