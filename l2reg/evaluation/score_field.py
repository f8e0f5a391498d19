"""Scoring of a displacement field against the ground truth of its pair: labels and landmarks."""

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import find_objects

from l2reg.data.pairs import Pair, PointFiles
from l2reg.data.task import Task
from l2reg.evaluation.metrics import (
    Labels,
    MaskArray,
    PointsArray,
    dice,
    outside_fraction,
    tre_mm,
    warp_labels,
)
from l2reg.evaluation.pair_scores import PairScores
from l2reg.evaluation.surface_distance import assd, hausdorff, surface_distances
from l2reg.evaluation.volume_change import volume_change
from l2reg.io.volumes import read_labels, read_mask
from l2reg.shapes import Spacing
from l2reg.submission.fields import FullField
from l2reg.submission.rules import Rules

Box = tuple[slice, slice, slice]
VOXELS: Spacing = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class GroundTruth:
    """Ground truth of a pair: the data that its field is scored with.

    Attributes:
        labels: Label maps of the fixed and of the moving scan.
        landmarks: Corresponding landmarks of the fixed and of the moving scan, in voxels.
        keypoints: Corresponding keypoints found automatically, in voxels.
        mask: Voxels of the fixed scan that count for SDlogJ; all if ``None``.
    """

    labels: tuple[Labels, Labels] | None
    landmarks: tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]] | None
    keypoints: tuple[Float[np.ndarray, "m 3"], Float[np.ndarray, "m 3"]] | None
    mask: MaskArray | None


def load_ground_truth(pair: Pair, task: Task, rules: Rules) -> GroundTruth:
    """Read the ground truth that a pair is scored with under the rules.

    Raises:
        InputError: If a file is unreadable.
    """
    fixed, moving, mask = pair.fixed.labels, pair.moving.labels, pair.fixed.mask
    return GroundTruth(
        labels=(read_labels(fixed), read_labels(moving))
        if task.labels and fixed and moving
        else None,
        landmarks=_read_points(pair.landmarks),
        keypoints=_read_points(pair.keypoints) if rules.keypoints else None,
        mask=read_mask(mask) if mask and rules.name in task.sdlogj_masked else None,
    )


def has_ground_truth(pair: Pair, task: Task) -> bool:
    """Return whether a pair has labels on both sides, or landmarks."""
    labels = bool(task.labels) and None not in (pair.fixed.labels, pair.moving.labels)
    return labels or pair.landmarks is not None


def zero_field(task: Task) -> FullField:
    """Return the zero field on the full grid, the identity transform."""
    return np.zeros((3, *task.shape), dtype=np.float32)


def score_field(
    pair_name: str, disp: FullField, truth: GroundTruth, task: Task, *, slow_metrics: bool = True
) -> PairScores:
    """Return the scores of one field.

    Args:
        pair_name: Name of the pair.
        disp: Displacement field, in voxels of the full grid. Fields of half resolution must be
            upsampled before (``half_resolution.upsample``).
        truth: Ground truth of the pair.
        task: Task of the pair, with its labels and voxel size.
        slow_metrics: Whether surface distances and folded volume, the slowest metrics, are
            computed.
    """
    dsc: dict[int, float] = {}
    distances: list[dict[int, float]] = [{}, {}, {}]
    if truth.labels is not None:
        fixed, moving = truth.labels
        warped = warp_labels(moving, disp)
        common = (set(np.unique(fixed)) & set(np.unique(moving))) - {0}
        present = [label for label in task.labels if label in common]
        absent = {label: math.nan for label in task.labels if label not in common}
        dsc = _sort_by_label(dice(fixed, warped, present) | absent)
        if slow_metrics and present:
            by_metric = _label_distances(fixed, warped, present, task.spacing_mm)
            distances = [_sort_by_label(metric | absent) for metric in by_metric]
    landmarks, keypoints = (
        [] if points is None else tre_mm(disp, *points, task.spacing_mm).tolist()
        for points in (truth.landmarks, truth.keypoints)
    )
    return PairScores(
        pair=pair_name,
        dsc=dsc,
        hd95_voxels=distances[0],
        hd95_mm=distances[1],
        assd_mm=distances[2],
        tre_mm=landmarks,
        tre_keypoints_mm=keypoints,
        change=volume_change(disp, truth.mask, tetrahedra=slow_metrics),
        outside=outside_fraction(disp, task.shape),
    )


def _label_distances(
    fixed: Labels, warped: Labels, labels: Sequence[int], spacing: Spacing
) -> list[dict[int, float]]:
    """Return HD95 in voxels, HD95 in mm and ASSD in mm by label, computed in parallel."""
    boxes = [find_objects(volume, max_label=max(labels, default=0)) for volume in (fixed, warped)]
    joint = {label: _joint_box(boxes[0][label - 1], boxes[1][label - 1]) for label in labels}
    largest_first = sorted(labels, key=lambda label: -_size(joint[label]))

    def measure(label: int) -> tuple[float, float, float]:
        masks = [np.equal(volume[joint[label]], label) for volume in (fixed, warped)]
        forward, backward = surface_distances(masks[0], masks[1], VOXELS)
        in_voxels = hausdorff(forward, backward, 95)
        if len(set(spacing)) == 1:  # isotropic: distances in mm are proportional
            return in_voxels, in_voxels * spacing[0], assd(forward, backward) * spacing[0]
        forward, backward = surface_distances(masks[0], masks[1], spacing)
        return in_voxels, hausdorff(forward, backward, 95), assd(forward, backward)

    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        results = list(threads.map(measure, largest_first))
    return [dict(zip(largest_first, column, strict=True)) for column in zip(*results, strict=True)]


def _joint_box(first: Box, second: Box | None) -> Box:
    """Return the smallest box that contains both; ``None`` stands for a label lost by warping."""
    if second is None:
        return first
    i, j, k = (
        slice(min(a.start, b.start), max(a.stop, b.stop))
        for a, b in zip(first, second, strict=True)
    )
    return (i, j, k)


def _size(box: Box) -> int:
    """Return the number of voxels of a box."""
    return int(np.prod([side.stop - side.start for side in box]))


def _sort_by_label(values: Mapping[int, float]) -> dict[int, float]:
    return dict(sorted(values.items()))


def _read_points(files: PointFiles | None) -> tuple[PointsArray, PointsArray] | None:
    return None if files is None else files.read()
