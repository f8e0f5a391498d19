"""Score fields against what is known of a pair."""

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
    """What a pair is scored with.

    Attributes:
        labels: Label maps of the fixed and the moving scan.
        landmarks: Corresponding voxels of the fixed and the moving scan.
        keypoints: Likewise, of those that were found automatically.
        mask: Voxels that count for SDlogJ, all if ``None``.
    """

    labels: tuple[Labels, Labels] | None
    landmarks: tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]] | None
    keypoints: tuple[Float[np.ndarray, "m 3"], Float[np.ndarray, "m 3"]] | None
    mask: MaskArray | None


def load_ground_truth(pair: Pair, task: Task, rules: Rules) -> GroundTruth:
    """Read what a pair is scored with under the rules.

    Raises:
        InputError: If a file is unreadable.
    """
    fixed, moving, mask = pair.fixed.labels, pair.moving.labels, pair.fixed.mask
    return GroundTruth(
        labels=(read_labels(fixed), read_labels(moving))
        if task.labels and fixed and moving
        else None,
        landmarks=_points(pair.landmarks),
        keypoints=_points(pair.keypoints) if rules.keypoints else None,
        mask=read_mask(mask) if mask and rules.name in task.sdlogj_masked else None,
    )


def has_ground_truth(pair: Pair, task: Task) -> bool:
    """Return whether a pair has labels on both sides, or landmarks."""
    labels = bool(task.labels) and None not in (pair.fixed.labels, pair.moving.labels)
    return labels or pair.landmarks is not None


def zero_field(task: Task) -> FullField:
    """Return the field that moves nothing."""
    return np.zeros((3, *task.shape), dtype=np.float32)


def score_field(
    pair_name: str, disp: FullField, truth: GroundTruth, task: Task, *, slow_metrics: bool = True
) -> PairScores:
    """Score one field.

    Args:
        pair_name: Ids.
        disp: Voxels of the full grid; a submission of half resolution is up-sampled first
            (``metrics.upsample``).
        truth: What to score with.
        task: Labels and voxel size.
        slow_metrics: Whether what takes longest is computed: surface distances, folded volume.
    """
    dsc: dict[int, float] = {}
    distances: list[dict[int, float]] = [{}, {}, {}]
    if truth.labels is not None:
        fixed, moving = truth.labels
        warped = warp_labels(moving, disp)
        common = (set(np.unique(fixed)) & set(np.unique(moving))) - {0}
        scored = [label for label in task.labels if label in common]
        skipped = {label: math.nan for label in task.labels if label not in common}
        dsc = _in_order(dice(fixed, warped, scored) | skipped)
        if slow_metrics and scored:
            found = _label_distances(fixed, warped, scored, task.spacing_mm)
            distances = [_in_order(metric | skipped) for metric in found]
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
    """Return HD95 in voxels, HD95 in mm and ASSD in mm of each label; labels share the threads."""
    boxes = [find_objects(volume, max_label=max(labels, default=0)) for volume in (fixed, warped)]
    joint = {label: _joint_box(boxes[0][label - 1], boxes[1][label - 1]) for label in labels}
    largest_first = sorted(labels, key=lambda label: -_size(joint[label]))

    def measure(label: int) -> tuple[float, float, float]:
        masks = [np.equal(volume[joint[label]], label) for volume in (fixed, warped)]
        there, back = surface_distances(masks[0], masks[1], VOXELS)
        in_voxels = hausdorff(there, back, 95)
        if len(set(spacing)) == 1:  # then all distances scale alike
            return in_voxels, in_voxels * spacing[0], assd(there, back) * spacing[0]
        there, back = surface_distances(masks[0], masks[1], spacing)
        return in_voxels, hausdorff(there, back, 95), assd(there, back)

    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        measured = list(threads.map(measure, largest_first))
    return [dict(zip(largest_first, column, strict=True)) for column in zip(*measured, strict=True)]


def _joint_box(first: Box, second: Box | None) -> Box:
    """Return the smallest box that holds both; a label that vanished has none."""
    if second is None:
        return first
    i, j, k = (
        slice(min(a.start, b.start), max(a.stop, b.stop))
        for a, b in zip(first, second, strict=True)
    )
    return (i, j, k)


def _size(box: Box) -> int:
    return int(np.prod([side.stop - side.start for side in box]))


def _in_order(values: Mapping[int, float]) -> dict[int, float]:
    return dict(sorted(values.items()))


def _points(files: PointFiles | None) -> tuple[PointsArray, PointsArray] | None:
    return None if files is None else files.read()
