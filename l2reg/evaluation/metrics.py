"""The official metrics: what they compute, including where that is not the textbook.

All take a displacement ``disp`` of shape (3, i, j, k) in voxels of the full grid. Each gives what
the organisers' SciPy calls give, to the last digit or the tolerance it states, in a fraction of
their time: volumes are visited in slabs that stay in the processor's cache.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Shaped
from scipy.ndimage import spline_filter1d

from l2reg.submission.fields import FullField

Labels = Shaped[np.ndarray, "i j k"]
MaskArray = Bool[np.ndarray, "i j k"]
PointsArray = Float[np.ndarray, "n 3"]
T = TypeVar("T")

_SLAB_VOXELS = 2**18  # a float64 slab of 2 MiB
_SPLINE_REACH = 30  # voxels; beyond, the cubic spline's weights are below 1e-16


def warp_labels(moving: Labels, disp: FullField) -> Labels:
    """Return the moving labels on the fixed grid: nearest voxel, halves round up.

    Whatever is looked up outside the grid, by however little, is background. Positions are in
    float64: float32 would round some of them to the other side of a half.
    """
    values = np.ascontiguousarray(moving).ravel()
    warped = np.empty(disp.shape[1:], dtype=values.dtype)

    def look_up(slab: slice) -> None:
        index = np.zeros((), dtype=np.int64)
        coords = _positions(disp, slab)
        inside = _inside(coords, moving.shape)
        coords += 0.5
        for coord, size in zip(np.floor(coords, out=coords), moving.shape, strict=True):
            index = index * size + np.clip(coord, 0, size - 1).astype(np.int64)
        np.multiply(values[index], inside, out=warped[slab])

    over_slabs(look_up, disp.shape[1:])
    return warped


def outside_fraction(disp: FullField, moving_shape: tuple[int, ...]) -> float:
    """Return the fraction of voxels that are looked up outside the moving volume."""
    counts = over_slabs(
        lambda slab: int(_inside(_positions(disp, slab), moving_shape).sum()), disp.shape[1:]
    )
    return 1 - sum(counts) / int(disp[0].size)


def over_slabs(function: Callable[[slice], T], shape: tuple[int, ...]) -> list[T]:
    """Return what ``function`` makes of ranges along a volume's first axis that fit the cache.

    Several at once: NumPy computes in one thread each, and leaves the interpreter free.
    """
    planes = max(1, _SLAB_VOXELS // (shape[1] * shape[2]))
    slabs = [slice(start, min(start + planes, shape[0])) for start in range(0, shape[0], planes)]
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        return list(threads.map(function, slabs))


def _positions(disp: FullField, slab: slice) -> Float64[np.ndarray, "3 planes j k"]:
    """Return where the voxels of a slab are looked up."""
    coords = disp[:, slab].astype(np.float64)
    i, j, k = (np.arange(size, dtype=np.float64) for size in disp.shape[1:])
    coords[0] += i[slab, None, None]
    coords[1] += j[:, None]
    coords[2] += k
    return coords


def _inside(
    coords: Float64[np.ndarray, "3 planes j k"], shape: tuple[int, ...]
) -> Bool[np.ndarray, "planes j k"]:
    inside = np.ones(coords.shape[1:], dtype=bool)
    for coord, size in zip(coords, shape, strict=True):
        inside &= (coord >= 0) & (coord <= size - 1)
    return inside


def dice(fixed: Labels, warped: Labels, labels: Iterable[int]) -> dict[int, float]:
    """Return the Dice coefficient of each label, 0 where it is in neither map."""
    labels = list(labels)
    joint = joint_histogram(fixed, warped, labels)
    scores = {}
    for row, label in enumerate(labels, start=1):
        volumes = int(joint[row].sum() + joint[:, row].sum())
        scores[label] = 2 * int(joint[row, row]) / volumes if volumes else 0.0
    return scores


def joint_histogram(
    fixed: Labels, warped: Labels, labels: Iterable[int]
) -> Shaped[np.ndarray, "rows columns"]:
    """Return how often each label of ``fixed`` meets each of ``warped``; entry 0 is all others."""
    rank = np.zeros(2**16, dtype=np.int64)  # negative labels count from the end: among the others
    labels = list(labels)
    rank[labels] = np.arange(1, len(labels) + 1)
    n = len(labels) + 1

    def count(slab: slice) -> np.ndarray:
        codes = rank[fixed[slab]] * n
        codes += rank[warped[slab]]
        return np.bincount(codes.ravel(), minlength=n * n)

    counts: np.ndarray = np.sum(over_slabs(count, fixed.shape), axis=0)
    return counts.reshape(n, n)


def tre_mm(
    disp: FullField,
    fixed_points: PointsArray,
    moving_points: PointsArray,
    spacing_mm: tuple[float, float, float],
) -> Float[np.ndarray, " n"]:
    """Return the target registration error of each landmark, in mm.

    The field is sampled by cubic spline and is 0 outside the grid.
    """
    moved = np.stack([sample_cubic(disp, point) for point in fixed_points])
    error = (fixed_points + moved - moving_points) * np.array(spacing_mm)
    distance: np.ndarray = np.linalg.norm(error, axis=1)
    return distance


def sample_cubic(disp: FullField, point: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3"]:
    """Return ``disp`` at one position, as ``scipy.ndimage.map_coordinates`` of order 3 does.

    The spline is linear in the samples and separable: a product with one row of weights per axis,
    which fade out within ``_SPLINE_REACH`` voxels. Like SciPy's, the value has the precision of
    ``disp``.
    """
    shape = disp.shape[1:]
    if any(not 0 <= x <= size - 1 for x, size in zip(point, shape, strict=True)):
        return np.zeros(3)
    ranges, weights = [], []
    for x, size in zip(point, shape, strict=True):
        near = slice(max(0, int(x) - _SPLINE_REACH), min(size, int(x) + _SPLINE_REACH))
        ranges.append(near)
        weights.append(_cubic_weights(float(x), size)[near])
    window = disp[:, ranges[0], ranges[1], ranges[2]].astype(np.float64)
    for row in reversed(weights):
        window = window @ row
    value: np.ndarray = window.astype(disp.dtype)
    return value


def _cubic_weights(x: float, size: int) -> Float64[np.ndarray, " size"]:
    """Return the weight of each of ``size`` samples in the cubic spline's value at ``x``."""
    prefilter = _cubic_prefilter(size)
    first = int(np.floor(x)) - 1
    weights = np.zeros(size)
    for knot in range(first, first + 4):
        distance = abs(x - knot)
        inner = 2 / 3 - distance**2 * (2 - distance) / 2
        weight = inner if distance < 1 else max(2 - distance, 0) ** 3 / 6
        weights += weight * prefilter[_mirrored(knot, size)]
    return weights


@lru_cache(maxsize=16)
def _cubic_prefilter(size: int) -> Float64[np.ndarray, "size size"]:
    """Return SciPy's cubic prefilter, mirrored at the ends, as a matrix."""
    if size == 1:
        return np.eye(1)
    matrix: np.ndarray = spline_filter1d(np.eye(size), order=3, axis=0, mode="mirror")
    return matrix


def _mirrored(index: int, size: int) -> int:
    period = max(2 * (size - 1), 1)
    index = abs(index) % period
    return min(index, period - index)
