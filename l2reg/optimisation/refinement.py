"""Refine the field of a pair by optimisation, whatever model it comes from."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from l2reg.batch import Batch, resize_batch, select_keys, swap_pair
from l2reg.features.extractor import FeatureExtractor
from l2reg.geometry.compose import invert
from l2reg.geometry.folding import remove_folds
from l2reg.optimisation.gauss_newton import Regularisation, StepSettings, gauss_newton
from l2reg.optimisation.point_term import PointTerm
from l2reg.shapes import ControlField, Maps, Shape3, StartField, WorkingGrid

_SEEN = ("fixed", "moving", "fixed_mask", "moving_mask", "spacing_mm")
_LEAST_VOLUME = 0.15  # of a cell between control points; the challenge's spline overshoots a little


@dataclass(frozen=True, kw_only=True)
class Refinement:
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

    grid: WorkingGrid
    features: FeatureExtractor
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
    def __call__(self, batch: Batch, disp: StartField) -> ControlField:
        """Return the refined field on the control grid of the last level, in its voxels.

        Args:
            batch: The pair on the grid.
            disp: Where to start, in voxels of its own grid, which may be any.
        """
        batch = {**select_keys(batch, _SEEN), **self._labels(batch)}
        there = self._one_way(batch, disp)
        if self.symmetric:
            back = self._one_way(swap_pair(batch), invert(disp))
            there = (there + invert(back)) / 2
        return remove_folds(there, min_determinant=_LEAST_VOLUME) if self.diffeomorphic else there

    def _labels(self, batch: Batch) -> Batch:
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

    def _one_way(self, batch: Batch, disp: StartField) -> ControlField:
        for n, (factor, control, most) in enumerate(self.levels, start=1):
            level = resize_batch(
                batch, _coarse_shape(batch["fixed"].shape[2:], factor), masks="linear"
            )
            disp = gauss_newton(
                self._maps(level),
                level["fixed_mask"],
                disp,
                level["spacing_mm"],
                Regularisation(self.elastic, self.viscous, self.smoothing),
                StepSettings(control, most, self.tolerance, self.solver),
                self.points.matches(level, disp) if n == len(self.levels) else None,
            )
        return disp

    def _maps(self, batch: Batch) -> tuple[Maps, Maps]:
        """Return the features of both scans, and their labels as further channels."""
        maps = self.features(batch["fixed"], batch["moving"])
        if "fixed_labels" not in batch:
            return maps
        share = self.labels**0.5
        labels = (batch["fixed_labels"], batch["moving_labels"])
        fixed, moving = (
            torch.cat([image_maps, share * one_hot], dim=1)
            for image_maps, one_hot in zip(maps, labels, strict=True)
        )
        return fixed, moving


def _coarse_shape(shape: Sequence[int], factor: int) -> Shape3:
    """Return a grid whose voxels span ``factor`` of ``shape``; eight voxels or more along an axis.

    An axis that has fewer voxels keeps them.
    """
    i, j, k = (size if factor == 1 else min(size, max(8, round(size / factor))) for size in shape)
    return (i, j, k)
