"""Point term: keypoints of a pair as a data term of ``gauss_newton``, by robust least squares."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor

from l2reg.batch import Batch
from l2reg.geometry.resize import resize_points
from l2reg.geometry.warp import sample_at_points
from l2reg.optimisation.correspondences import KeypointMatcher, Positions
from l2reg.shapes import Shape3, StartField

PairField = Float[Tensor, "1 3 ci cj ck"]
PairBlocks = Float[Tensor, "1 6 ci cj ck"]


@dataclass(frozen=True)
class PointMatches:
    """Corresponding points of one pair.

    The term is half the weighted squared distance, mean over the points, with Cauchy's weights: a
    point at a distance of ``cauchy_scale`` counts half, one further away less.

    Attributes:
        fixed_points: Positions in the fixed scan, in voxels of the scans' grid.
        moving_points: Their partners in the moving scan, row by row.
        weight: Weight of the term.
        cauchy_scale: Distance in voxels.
    """

    fixed_points: Positions
    moving_points: Positions
    weight: float
    cauchy_scale: float

    def normal_equations(self, current: PairField, shape: Shape3) -> tuple[PairBlocks, PairField]:
        """Return matrix and gradient of the term at the control points.

        Args:
            current: Field on the control grid, in voxels of the scans.
            shape: Shape of the scans' grid.
        """
        i, j, k = current.shape[2:]
        at = resize_points(self.fixed_points[None], shape, (i, j, k))
        moved = self.fixed_points + sample_at_points(current, at)[0]
        residual = moved - self.moving_points
        distance = residual.square().sum(dim=1, keepdim=True)
        trust = 1 / (1 + distance / self.cauchy_scale**2)
        scale = self.weight * i * j * k / max(1, len(self.fixed_points))
        sums = current.new_zeros(i * j * k, 4)
        for corner, fraction in _corners(at[0], (i, j, k)):
            spread = torch.cat([trust, trust * residual], dim=1) * fraction[:, None] * scale
            sums.index_add_(0, corner, spread)
        rows = sums.T.reshape(1, 4, i, j, k)
        blocks = rows.new_zeros(1, 6, i, j, k)
        blocks[:, [0, 3, 5]] = rows[:, :1]
        return blocks, rows[:, 1:]


@dataclass(frozen=True)
class GivenPoints:
    """Takes the points that a batch has, in place of a search."""

    def __call__(self, batch: Batch, _disp: StartField) -> tuple[Positions, Positions]:
        """Return the fixed points of a pair and their partners, in voxels."""
        return batch["fixed_points"][0], batch["moving_points"][0]


@dataclass(frozen=True, kw_only=True)
class PointTerm:
    """Makes corresponding points of a pair a term of its refinement.

    Keypoints that are found in the pair itself count on the last level, given points on all.

    Attributes:
        matcher: Finds the keypoints, or takes those that are given.
        weight: Weight of their term; with 0 none are searched for.
        cauchy_scale: Distance in voxels at which a point counts half.
    """

    matcher: KeypointMatcher | GivenPoints
    weight: float
    cauchy_scale: float

    def __post_init__(self) -> None:
        if self.weight < 0 or self.cauchy_scale <= 0:
            raise ValueError(
                "weight must be 0 or more and cauchy_scale above 0, "
                f"got {self.weight}, {self.cauchy_scale}"
            )

    def matches(self, batch: Batch, disp: StartField, *, last: bool) -> PointMatches | None:
        """Return corresponding points of a pair that ``disp`` aligns roughly.

        Args:
            batch: The pair on the grid of a level.
            disp: The field.
            last: Whether it is the last level.
        """
        if self.weight == 0 or not (last or isinstance(self.matcher, GivenPoints)):
            return None
        return PointMatches(*self.matcher(batch, disp), self.weight, self.cauchy_scale)


def _corners(
    at: Positions, shape: Shape3
) -> Iterator[tuple[Int[Tensor, " n"], Float[Tensor, " n"]]]:
    """Return the eight grid points around each position as flat indices, and their weights."""
    last = torch.tensor(shape, device=at.device) - 1
    at = at.clamp(min=0).minimum(last.to(at))
    low = at.floor().long().minimum((last - 1).clamp(min=0))
    part = at - low
    for corner in product((0, 1), repeat=3):
        upper = torch.tensor(corner, device=at.device)
        i, j, k = (low + upper).minimum(last).T
        fraction = torch.where(upper == 1, part, 1 - part).prod(dim=1)
        yield (i * shape[1] + j) * shape[2] + k, fraction
