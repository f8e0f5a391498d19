"""Corresponding points as a data term of ``optimise.gauss_newton``: robust least squares."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor

from l2reg.batch import Batch
from l2reg.geometry.resize import resize_points
from l2reg.geometry.warp import sample_at_points
from l2reg.optimisation.correspondences import KeypointMatcher
from l2reg.shapes import Shape3, StartField

Found = Float[Tensor, "n 3"]  # voxels
Control = Float[Tensor, "1 3 ci cj ck"]
Blocks = Float[Tensor, "1 6 ci cj ck"]


@dataclass(frozen=True)
class PointMatches:
    """Points of the fixed scan of one pair, and where they lie in the moving one.

    The term is half the weighted squared distance, mean over points; a point that is ``outlying``
    voxels off counts half, one further off less (Cauchy's weights).

    Attributes:
        here: In voxels of the scans' grid.
        there: Their partners, likewise.
        weight: Of the term.
        outlying: In voxels.
    """

    here: Found
    there: Found
    weight: float
    outlying: float

    def normal_equations(self, current: Control, shape: Shape3) -> tuple[Blocks, Control]:
        """Return matrix and gradient of the term at the control points.

        Args:
            current: The field on the control grid, in voxels of the scans.
            shape: Of the scans' grid.
        """
        i, j, k = current.shape[2:]
        at = resize_points(self.here[None], shape, (i, j, k))
        misfit = self.here + sample_at_points(current, at)[0] - self.there
        trust = 1 / (1 + misfit.square().sum(dim=1, keepdim=True) / self.outlying**2)
        scale = self.weight * i * j * k / max(1, len(self.here))
        sums = current.new_zeros(i * j * k, 4)
        for corner, share in _corners(at[0], (i, j, k)):
            spread = torch.cat([trust, trust * misfit], dim=1) * share[:, None] * scale
            sums.index_add_(0, corner, spread)
        rows = sums.T.reshape(1, 4, i, j, k)
        blocks = rows.new_zeros(1, 6, i, j, k)
        blocks[:, [0, 3, 5]] = rows[:, :1]
        return blocks, rows[:, 1:]


def _corners(at: Found, shape: Shape3) -> Iterator[tuple[Int[Tensor, " n"], Float[Tensor, " n"]]]:
    """Return the eight grid points around each position, as flat indices, and their shares."""
    last = torch.tensor(shape, device=at.device) - 1
    at = at.clamp(min=0).minimum(last.to(at))
    low = at.floor().long().minimum((last - 1).clamp(min=0))
    part = at - low
    for corner in product((0, 1), repeat=3):
        upper = torch.tensor(corner, device=at.device)
        i, j, k = (low + upper).minimum(last).T
        share = torch.where(upper == 1, part, 1 - part).prod(dim=1)
        yield (i * shape[1] + j) * shape[2] + k, share


@dataclass(frozen=True, kw_only=True)
class PointTerm:
    """Keypoints that are found in a pair itself and pull its field.

    Attributes:
        find: Finds them, before the last level.
        weight: Of their term; with 0 they are not looked for.
        outlying: Voxels that a point is off by to count half.
    """

    find: KeypointMatcher
    weight: float
    outlying: float

    def __post_init__(self) -> None:
        if self.weight < 0 or self.outlying <= 0:
            raise ValueError(
                f"weight must be 0 or more and outlying above 0, got {self.weight}, {self.outlying}"
            )

    def matches(self, batch: Batch, disp: StartField) -> PointMatches | None:
        """Return the points of the pair that ``disp`` brings together roughly."""
        if self.weight == 0:
            return None
        return PointMatches(*self.find(batch, disp), self.weight, self.outlying)
