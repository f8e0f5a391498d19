"""Labels and landmarks that enter a registration, on its working grid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Float64

from l2reg.batch import Batch
from l2reg.geometry.affine import apply_affine, invert_affine
from l2reg.geometry.resize import resize_labels, resize_points
from l2reg.geometry.warp import warp
from l2reg.optimisation.point_term import GivenPoints, PointTerm
from l2reg.optimisation.refinement import Refinement
from l2reg.problems import InputError, Problem
from l2reg.registration.annotations import Annotations, LabelPair, PointPair
from l2reg.registration.start import Start
from l2reg.shapes import Points, Shape3
from l2reg.transforms.world import voxels_to_world
from l2reg.transforms.world_transform import displacement_map

Use = Literal["labels", "points"]
USES: tuple[Use, ...] = get_args(Use)


@dataclass(frozen=True)
class UsedAnnotations:
    """The labels and landmarks of two scans, by whether a registration may use them.

    Attributes:
        used: Those that enter the registration, and cannot be a score of it.
        scored: The others.
    """

    used: Annotations
    scored: Annotations

    def batch(self, start: Start, shape: Shape3) -> Batch:
        """Return what is used as entries of a batch, on the fixed scan's grid resized to ``shape``.

        Args:
            start: What the registration starts from: labels and landmarks are those after it.
            shape: Shape of the working grid.
        """
        batch: Batch = {}
        if self.used.labels is not None:
            batch |= _labels(self.used.labels, start, shape)
        if self.used.points is not None:
            batch |= self._points(self.used.points, start, shape)
        return batch

    def add_to(self, refinement: Refinement, weights: Mapping[str, float]) -> Refinement:
        """Return a refinement that compares what is used as well.

        Args:
            refinement: A refinement that compares images.
            weights: ``labels`` and ``points``, and ``point_scale``, see ``PointTerm``.
        """
        if self.used.labels is not None:
            refinement = replace(refinement, label_weight=weights["labels"])
        if self.used.points is not None:
            points = PointTerm(
                matcher=GivenPoints(), weight=weights["points"], cauchy_scale=weights["point_scale"]
            )
            refinement = replace(refinement, points=points)
        return refinement

    def _points(self, points: PointPair, start: Start, shape: Shape3) -> Batch:
        fixed, moving = self.used.grids
        at = _voxels(fixed.place.affine, points[0])
        if start.disp is None:
            partner = apply_affine(
                invert_affine(start.matrix), _voxels(moving.place.affine, points[1])
            )
        else:
            field = displacement_map(start.disp[0].numpy(), fixed.place, moving.place.affine)
            partner = _voxels(fixed.place.affine, field.inverse(points[1]))
        return {
            "fixed_points": resize_points(at, fixed.shape, shape),
            "moving_points": resize_points(partner, fixed.shape, shape),
        }


def split_by_use(annotations: Annotations, use: Sequence[Use], *, refine: bool) -> UsedAnnotations:
    """Return labels and landmarks by whether a registration may use them.

    Args:
        annotations: Those of two scans.
        use: What it may use.
        refine: Whether there is a refinement, which is what uses them.

    Raises:
        InputError: If scans do not have what is to be used, or there is no refinement.
    """
    if use and not refine:
        raise _useless(use[0], "a refinement, which compares them", "none", "leave out --no-refine")
    present = {"labels": annotations.labels, "points": annotations.points}
    for name in use:
        if present[name] is None:
            files = f"--fixed-{name} FILE --moving-{name} FILE"
            raise _useless(name, f"{name} of both scans", "none", f"add {files}")
    grids, labels, points = annotations.grids, annotations.labels, annotations.points
    with_labels, with_points = "labels" in use, "points" in use
    return UsedAnnotations(
        Annotations(grids, labels if with_labels else None, points if with_points else None),
        Annotations(grids, None if with_labels else labels, None if with_points else points),
    )


def _useless(name: str, expected: str, found: str, remedy: str) -> InputError:
    return InputError(
        Problem(
            where=f"--use {name}",
            what="has nothing to act on",
            expected=expected,
            found=found,
            remedy=remedy,
        )
    )


def _labels(labels: LabelPair, start: Start, shape: Shape3) -> Batch:
    fixed, moving = (torch.from_numpy(each.astype(np.int32))[None, None] for each in labels)
    i, j, k = fixed.shape[2:]
    disp = start.field((i, j, k))
    aligned = warp(moving.float(), disp, interpolation="nearest", padding="zeros").int()
    return {
        "fixed_labels": resize_labels(fixed, shape),
        "moving_labels": resize_labels(aligned, shape),
    }


def _voxels(affine: Float[np.ndarray, "4 4"], points: Float64[np.ndarray, "3 n"]) -> Points:
    voxels = voxels_to_world(np.linalg.inv(affine), points)
    return torch.from_numpy(voxels.T.copy())[None].float()
