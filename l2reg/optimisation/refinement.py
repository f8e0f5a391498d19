"""Test-time refinement (instance optimisation): improve the field of one pair, from any model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from l2reg.batch import Batch, resize_batch, select_keys, swap_pair
from l2reg.features.extractor import FeatureExtractor, comparable_features
from l2reg.features.local_normalisation import LocalNormalisation
from l2reg.geometry.compose import invert
from l2reg.geometry.folding import remove_folds
from l2reg.optimisation.data_term import data_term
from l2reg.optimisation.gauss_newton import Regularisation, StepSettings, gauss_newton
from l2reg.optimisation.point_term import GivenPoints, PointTerm
from l2reg.shapes import ControlField, Maps, Mask, Shape3, StartField, WorkingGrid

_INPUTS = (
    "fixed", "moving", "fixed_mask", "moving_mask", "overlap", "cross_modality", "spacing_mm",
)  # fmt: skip
_POINTS = ("fixed_points", "moving_points")

MapsPair = tuple[Maps, Maps]
MasksPair = tuple[Mask, Mask]


@dataclass(frozen=True, kw_only=True)
class Refinement:
    """Gauss-Newton steps from coarse to fine (``optimisation.gauss_newton``).

    It reads nothing but the pair: no network is changed, and no pair influences the next. Voxels
    outside the fixed mask are not compared; labels and points of a pair are read only if asked for.

    Attributes:
        grid: Working grid of the finest level.
        features: Feature maps that are compared.
        coarse_features: Those of the levels whose factor is 2 or more, or ``None`` for the same.
        normalisation: Their local normalisation, or ``None``.
        levels: Rows ``(factor, control spacing, max steps)``, coarsest first: voxels of the working
            grid that one voxel of the level spans, voxels of the level between control points, and
            the largest number of steps.
        from_level: Number of the first level that is used, 1 for the coarsest, or ``"auto"``: the
            coarse levels also start from zero, and those are left out after which the field from
            zero still matches worse than the initial one, by the features of the last level.
        elastic: See ``gauss_newton.Regularisation``.
        viscous: See ``gauss_newton.Regularisation``.
        cross_modality: Factor of both between scans of two modalities, whose features differ where
            the anatomy does not.
        smoothing_passes: See ``gauss_newton.Regularisation``.
        step_tolerance: See ``gauss_newton.StepSettings``.
        cg_iterations: See ``gauss_newton.StepSettings``.
        cg_tolerance: See ``gauss_newton.StepSettings``.
        label_weight: Weight of the squared difference of the label maps, where the batch has labels
            of both scans; 0 leaves them out.
        points: Corresponding points as a further term.
        symmetric: Whether the pair is refined in both directions: the result is the mean of one
            field and the inverse of the other.
        diffeomorphic: Whether folds are removed from the final field.
        min_determinant: Smallest determinant that ``diffeomorphic`` leaves, of a cell between
            control points.
    """

    grid: WorkingGrid
    features: FeatureExtractor
    coarse_features: FeatureExtractor | None
    normalisation: LocalNormalisation | None
    levels: Sequence[Sequence[int]]
    from_level: int | Literal["auto"]
    elastic: float
    viscous: float
    cross_modality: float
    smoothing_passes: int
    step_tolerance: float
    cg_iterations: int
    cg_tolerance: float
    label_weight: float
    points: PointTerm
    symmetric: bool
    diffeomorphic: bool
    min_determinant: float

    def __post_init__(self) -> None:
        for level in self.levels:
            if len(level) != 3 or min(level) < 1:
                raise ValueError(
                    f"levels must be rows of factor, control spacing, max steps; got {level}"
                )
        n_levels = max(1, len(self.levels))
        if self.from_level != "auto" and self.from_level not in range(1, n_levels + 1):
            raise ValueError(
                f"from_level must be auto or a number from 1 to {n_levels}, got {self.from_level}"
            )
        if self.label_weight < 0:
            raise ValueError(f"label_weight must be 0 or more, got {self.label_weight}")
        if self.elastic < 0 or self.viscous < 0 or self.elastic + self.viscous == 0:
            raise ValueError(
                "elastic and viscous must be 0 or more, and not both 0, "
                f"got {self.elastic}, {self.viscous}"
            )
        if self.cross_modality <= 0:
            raise ValueError(f"cross_modality must be above 0, got {self.cross_modality}")

    @torch.no_grad()
    def __call__(self, batch: Batch, disp: StartField) -> ControlField:
        """Return the refined field on the control grid of the last level, in voxels of that grid.

        Args:
            batch: The pair on the working grid.
            disp: Initial field, in voxels of its own grid, which may be any.
        """
        inputs = (*_INPUTS, *_POINTS) if isinstance(self.points.matcher, GivenPoints) else _INPUTS
        batch = {**select_keys(batch, inputs), **self._one_hot_labels(batch)}
        refined = self._refine(batch, disp)
        if self.symmetric:
            backward = self._refine(swap_pair(batch), invert(disp))
            refined = (refined + invert(backward)) / 2
        if not self.diffeomorphic:
            return refined
        return remove_folds(refined, min_determinant=self.min_determinant)

    def _refine(self, batch: Batch, disp: StartField) -> ControlField:
        """Return the field after all levels that are used, in one direction."""
        for n in range(self._first_level(batch, disp), len(self.levels)):
            disp = self._refine_level(n, *self._resize_to_level(n, batch), disp)
        return disp

    def _first_level(self, batch: Batch, disp: StartField) -> int:
        """Return the index of the first level that is used; the last one always is."""
        if self.from_level != "auto":
            return self.from_level - 1
        if len(self.levels) < 2:
            return 0
        last = len(self.levels) - 1
        _, maps, masks = self._resize_to_level(last, batch)
        reached = data_term(maps, masks, disp)
        from_zero: StartField = torch.zeros_like(disp)
        for n in range(last):
            from_zero = self._refine_level(n, *self._resize_to_level(n, batch), from_zero)
            if reached >= data_term(maps, masks, from_zero):
                return n
        return last

    def _resize_to_level(self, n: int, batch: Batch) -> tuple[Batch, MapsPair, MasksPair]:
        """Return the pair on the grid of a level, and its feature maps and masks."""
        factor = self.levels[n][0]
        level = resize_batch(batch, _coarse_shape(batch["fixed"].shape[2:], factor), masks="linear")
        return level, *self._features(level, self._extractor(factor))

    def _refine_level(
        self, n: int, level: Batch, maps: MapsPair, masks: MasksPair, disp: StartField
    ) -> ControlField:
        """Return the field after the steps of a level."""
        _, control_spacing, max_steps = self.levels[n]
        stiffness = torch.ones_like(level["spacing_mm"][:, 0])
        if "cross_modality" in level:
            stiffness = torch.where(level["cross_modality"] > 0, self.cross_modality, stiffness)
        return gauss_newton(
            maps,
            masks,
            disp,
            level["spacing_mm"],
            Regularisation(self.elastic, self.viscous, self.smoothing_passes, stiffness),
            StepSettings(
                control_spacing,
                max_steps,
                self.step_tolerance,
                self.cg_iterations,
                self.cg_tolerance,
            ),
            self.points.matches(level, disp, last=n + 1 == len(self.levels)),
        )

    def _extractor(self, factor: int) -> FeatureExtractor:
        """Return the extractor of a level whose voxels span ``factor`` voxels of the grid."""
        coarse = self.coarse_features if factor > 1 else None
        return self.features if coarse is None else coarse

    def _features(self, batch: Batch, extractor: FeatureExtractor) -> tuple[MapsPair, MasksPair]:
        """Return the feature maps of both scans, followed by their weighted labels, and masks."""
        maps, masks = comparable_features(batch, extractor)
        if self.normalisation is not None:
            fixed, moving = map(self.normalisation, maps, masks)
            maps = (fixed, moving)
        if (n_channels := batch["fixed"].shape[1]) > 1:  # their costs are averaged
            maps = (maps[0] * n_channels**-0.5, maps[1] * n_channels**-0.5)
        if "fixed_labels" not in batch:
            return maps, masks
        factor = self.label_weight**0.5
        labels = (batch["fixed_labels"], batch["moving_labels"])
        fixed, moving = (
            torch.cat([image_maps, factor * one_hot], dim=1)
            for image_maps, one_hot in zip(maps, labels, strict=True)
        )
        return (fixed, moving), masks

    def _one_hot_labels(self, batch: Batch) -> Batch:
        """Return a channel for each label that both scans have, if labels are to be read."""
        if self.label_weight == 0:
            return {}
        pair = (batch["fixed_labels"], batch["moving_labels"])
        common = set.intersection(*(set(torch.unique(labels).tolist()) for labels in pair)) - {0}
        if not common:
            return {}
        values = pair[0].new_tensor(sorted(common)).view(1, -1, 1, 1, 1)
        fixed, moving = ((labels == values).float() for labels in pair)
        return {"fixed_labels": fixed, "moving_labels": moving}


def _coarse_shape(shape: Sequence[int], factor: int) -> Shape3:
    """Return a grid whose voxels span ``factor`` voxels of ``shape``; at least 8 along each axis.

    An axis of fewer than 8 voxels keeps them.
    """
    i, j, k = (size if factor == 1 else min(size, max(8, round(size / factor))) for size in shape)
    return (i, j, k)
