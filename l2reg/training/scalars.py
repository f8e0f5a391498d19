"""Scalars of a training step: sums over the parts of a batch, and means over all ranks."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from l2reg.problems import Problem
from l2reg.training.distributed import average

Scalars = Mapping[str, float]


def sum_terms(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the sum over the parts of a batch of each term."""
    return {name: torch.stack([part[name] for part in parts]).sum(dim=0) for name in parts[0]}


def mean_over_ranks(scalars: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the means over all ranks as numbers; the device is waited for once."""
    values = torch.stack([scalar.detach() for scalar in scalars.values()])
    average([values])
    return dict(zip(scalars, values.tolist(), strict=True))


def not_finite(step: int, values: Scalars) -> Problem:
    """Return the problem of a step whose loss or gradient is not finite."""
    return Problem(
        where=f"training step {step}",
        what="has a loss or gradient that is not finite",
        expected="finite numbers",
        found=", ".join(f"{name} {value:.4g}" for name, value in values.items()),
        remedy="the checkpoints hold the state before this step; lower optimizer.lr, or look "
        "at the term above that is nan or inf (its weight is loss.weights.<term>)",
    )
