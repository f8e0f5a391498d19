"""The official metrics: what they compute, including where that is not the textbook.

All take a displacement ``disp`` of shape (3, i, j, k) in voxels of the full grid.
"""

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Shaped
from scipy.ndimage import map_coordinates, zoom

from l2reg.geometry.jacobian import jacobian_determinant
from l2reg.submission.fields import HalfField

FullField = Float[np.ndarray, "3 i j k"]
Labels = Shaped[np.ndarray, "i j k"]
MaskArray = Bool[np.ndarray, "i j k"]
PointsArray = Float[np.ndarray, "n 3"]

_SLAB = 16  # planes of the Jacobian computed at once


def upsample(field: HalfField) -> Float32[np.ndarray, "3 i j k"]:
    """Return a submitted field on the full grid, as the organisers up-sample it.

    Quadratic spline, corner-aligned, values not rescaled.
    """
    return np.stack([zoom(component.astype(np.float32), 2, order=2) for component in field])


def warp_labels(moving: Labels, disp: FullField) -> Labels:
    """Return the moving labels on the fixed grid: nearest voxel, halves round up.

    Whatever is looked up outside the grid, by however little, is background.
    """
    warped: Labels = map_coordinates(moving, np.indices(moving.shape) + disp, order=0)
    return warped


def dice(fixed: Labels, warped: Labels, labels: Iterable[int]) -> dict[int, float]:
    """Return the Dice coefficient of each label, 0 where it is in neither map."""
    scores = {}
    for label in labels:
        here, there = fixed == label, warped == label
        volumes = int(here.sum()) + int(there.sum())
        scores[label] = 2 * int((here & there).sum()) / volumes if volumes else 0.0
    return scores


def tre_mm(
    disp: FullField,
    fixed_points: PointsArray,
    moving_points: PointsArray,
    spacing_mm: tuple[float, float, float],
) -> Float[np.ndarray, " n"]:
    """Return the target registration error of each landmark, in mm.

    The field is sampled by cubic spline and is 0 outside the grid.
    """
    moved = np.stack([map_coordinates(component, fixed_points.T) for component in disp], axis=1)
    error = (fixed_points + moved - moving_points) * np.array(spacing_mm)
    distance: np.ndarray = np.linalg.norm(error, axis=1)
    return distance


def determinant(disp: FullField) -> Float[np.ndarray, "crop_i crop_j crop_k"]:
    """Return the Jacobian determinant on the grid cropped by one voxel a side, in float64."""
    slabs = []
    for start in range(0, disp.shape[1] - 2, _SLAB):
        slab = torch.from_numpy(disp[:, start : start + _SLAB + 2].astype(np.float64))
        slabs.append(jacobian_determinant(slab[None])[0].numpy())
    return np.concatenate(slabs)


def sdlogj(det: Float[np.ndarray, "crop_i crop_j crop_k"], mask: MaskArray | None = None) -> float:
    """Return the official "SDlogJ": the SD of log(determinant **+ 3**), clipped.

    The 3 hides folds and makes the value about four times smaller than the name says.

    Args:
        det: From ``determinant``; one more voxel a side is cropped off.
        mask: Voxels of the full grid that count, all if ``None``.
    """
    inner = slice(1, -1)
    log = np.log(np.clip(det[inner, inner, inner] + 3, 1e-9, 1e9))
    if mask is not None:
        log = log[mask[2:-2, 2:-2, 2:-2]]
    return float(log.std())
