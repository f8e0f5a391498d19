"""The learning rate as a pure function of (step, max_steps): there is nothing to store."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class WarmupCosine:
    """Linear warm-up, then half a cosine down to ``floor``.

    Attributes:
        warmup: Fraction of all steps spent warming up.
        floor: Last factor, relative to the highest.
    """

    warmup: float
    floor: float

    def __post_init__(self) -> None:
        if not (0 <= self.warmup < 1 and 0 <= self.floor <= 1):
            raise ValueError(
                f"need 0 <= warmup < 1 and 0 <= floor <= 1, got {self.warmup}, {self.floor}"
            )

    def factor(self, step: int, max_steps: int) -> float:
        """Return the factor of the learning rate at ``step``, counted from 0; in (0, 1]."""
        warmup_steps = round(self.warmup * max_steps)
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        progress = (step - warmup_steps) / max(1, max_steps - warmup_steps)
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * progress)) / 2
