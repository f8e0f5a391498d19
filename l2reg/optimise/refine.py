"""Refine the field of a pair by optimisation, whatever model it comes from."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from l2reg.config import build, read_node
from l2reg.data.reader import Grid
from l2reg.geometry.compose import invert
from l2reg.geometry.resize import resample, resize_image, voxel_ratio
from l2reg.geometry.unfold import unfolded
from l2reg.optimise.features import Features
from l2reg.optimise.gauss_newton import Control, Start, Steps, Stiffness, gauss_newton
from l2reg.optimise.keypoints import Correspondences
from l2reg.optimise.matches import Matches
from l2reg.shapes import Batch, Maps, OneHot

_SEEN = ("fixed", "moving", "fixed_mask", "moving_mask", "spacing_mm")
_LEAST_VOLUME = 0.15  # of a cell between control points; the challenge's spline overshoots a little


@dataclass(frozen=True, kw_only=True)
class PointTerm:
    """Keypoints that are found in a pair itself and pull its field.

    Attributes:
        find: Finds them, before the last level.
        weight: Of their term; with 0 they are not looked for.
        outlying: Voxels that a point is off by to count half.
    """

    find: Correspondences
    weight: float
    outlying: float

    def __post_init__(self) -> None:
        if self.weight < 0 or self.outlying <= 0:
            raise ValueError(
                f"weight must be 0 or more and outlying above 0, got {self.weight}, {self.outlying}"
            )

    def matches(self, batch: Batch, disp: Start) -> Matches | None:
        """Return the points of the pair that ``disp`` brings together roughly."""
        if self.weight == 0:
            return None
        return Matches(*self.find(batch, disp), self.weight, self.outlying)


@dataclass(frozen=True, kw_only=True)
class Refine:
    """Gauss-Newton steps from coarse to fine (``optimise.gauss_newton``).

    It knows nothing but the pair: no network is touched, no pair leaves a trace for the next.
    Voxels outside the fixed mask are not compared; labels and points of a data set are not read.

    Attributes:
        grid: Which grid the finest level works on, as of a model.
        features: What is compared.
        levels: Rows ``(factor, control, steps)``, coarsest first: how many voxels of the grid one
            of the level's spans, how many of the level's lie between control points, and how many
            steps are taken at most.
        elastic: See ``gauss_newton.Stiffness``.
        viscous: Likewise.
        smoothing: Likewise.
        tolerance: See ``gauss_newton.Steps``.
        solver: Likewise.
        labels: Weight of the squared difference of the label maps, where the batch has them for
            both scans; 0 leaves them out.
        points: Keypoints that pull the field at the last level.
        symmetric: Whether the pair is refined in both directions: the result is the mean of one
            field and the inverse of the other.
        diffeomorphic: Whether what folds in the end is smoothed until it does not.
    """

    grid: Grid | Sequence[int]
    features: Features
    levels: Sequence[Sequence[int]]
    elastic: float
    viscous: float
    smoothing: int
    tolerance: float
    solver: int
    labels: float
    points: PointTerm
    symmetric: bool
    diffeomorphic: bool

    def __post_init__(self) -> None:
        for level in self.levels:
            if len(level) != 3 or min(level) < 1:
                raise ValueError(f"levels must be rows of factor, control, steps; got {level}")
        if self.labels < 0:
            raise ValueError(f"labels must be 0 or more, got {self.labels}")
        if self.elastic < 0 or self.viscous < 0 or self.elastic + self.viscous == 0:
            raise ValueError(
                "elastic and viscous must be 0 or more, and not both 0, "
                f"got {self.elastic}, {self.viscous}"
            )

    @torch.no_grad()
    def __call__(self, batch: Batch, disp: Start) -> Control:
        """Return the refined field on the control grid of the last level, in its voxels.

        Args:
            batch: The pair on the grid.
            disp: Where to start, in voxels of its own grid, which may be any.
        """
        batch = {name: batch[name] for name in _SEEN if name in batch} | self._labels(batch)
        there = self._one_way(batch, disp)
        if self.symmetric:
            back = self._one_way(_swapped(batch), invert(disp))
            there = (there + invert(back)) / 2
        return unfolded(there, least=_LEAST_VOLUME) if self.diffeomorphic else there

    def _labels(self, batch: Batch) -> dict[str, OneHot]:
        """Return a channel for each label that both scans have, if labels are to be read."""
        if self.labels == 0:
            return {}
        pair = (batch["fixed_labels"], batch["moving_labels"])
        common = set.intersection(*(set(torch.unique(labels).tolist()) for labels in pair)) - {0}
        if not common:
            return {}
        values = pair[0].new_tensor(sorted(common)).view(1, -1, 1, 1, 1)
        fixed, moving = ((labels == values).float() for labels in pair)
        return {"fixed_labels": fixed, "moving_labels": moving}

    def _one_way(self, batch: Batch, disp: Start) -> Control:
        for n, (factor, control, most) in enumerate(self.levels, start=1):
            level = _coarsened(batch, factor)
            disp = gauss_newton(
                self._maps(level),
                level["fixed_mask"],
                disp,
                level["spacing_mm"],
                Stiffness(self.elastic, self.viscous, self.smoothing),
                Steps(control, most, self.tolerance, self.solver),
                self.points.matches(level, disp) if n == len(self.levels) else None,
            )
        return disp

    def _maps(self, batch: Batch) -> tuple[Maps, Maps]:
        """Return the features of both scans, and their labels as further channels."""
        maps = self.features(batch["fixed"], batch["moving"])
        if "fixed_labels" not in batch:
            return maps
        share = self.labels**0.5
        fixed, moving = (
            torch.cat([found, share * batch[name]], dim=1)
            for found, name in zip(maps, ("fixed_labels", "moving_labels"), strict=True)
        )
        return fixed, moving


def refine_for(task: str) -> Refine:
    """Return the refinement that ``refine=gauss_newton`` is for a task.

    Raises:
        InputError: If there are no settings for it.
    """
    settings = read_node("task_refine", f"{task}_gauss_newton")["refine"]
    refine: Refine = build({**read_node("refine", "gauss_newton"), **settings})
    return refine


def _coarsened(batch: Batch, factor: int) -> dict[str, Tensor]:
    """Return the pair on a grid whose voxels span ``factor`` old ones; eight voxels at least."""
    old = batch["fixed"].shape[2:]
    i, j, k = (size if factor == 1 else min(size, max(8, round(size / factor))) for size in old)
    ratio = batch["spacing_mm"].new_tensor(voxel_ratio((i, j, k), old))

    def coarsened(name: str, value: Tensor) -> Tensor:
        if name == "spacing_mm":
            return value * ratio
        return (resample if name.endswith("mask") else resize_image)(value, (i, j, k))

    return {name: coarsened(name, value) for name, value in batch.items()}


def _swapped(batch: Batch) -> dict[str, Tensor]:
    """Return the same problem the other way round."""
    other = {"fixed": "moving", "moving": "fixed"}

    def name_of(name: str) -> str:
        side, *rest = name.split("_", 1)
        return "_".join([other.get(side, side), *rest])

    return {name_of(name): value for name, value in batch.items()}
