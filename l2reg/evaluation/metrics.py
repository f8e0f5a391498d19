"""The official metrics: label warping, Dice coefficient and target registration error (TRE).

They follow the organisers' definitions, also where these differ from the textbook. All take a
displacement field ``disp`` in voxels of the full grid. Results equal those of the organisers' SciPy
calls, to the last digit or to the tolerance stated, in a fraction of the time: volumes are
processed in slabs that fit the processor's cache.
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
_SPLINE_RADIUS = 30  # voxels; beyond, the cubic spline's weights are below 1e-16


def warp_labels(moving: Labels, disp: FullField) -> Labels:
    """Return the moving labels on the fixed grid, by nearest-neighbour sampling; halves round up.

    Voxels sampled outside the grid, even by a fraction of a voxel, become background. Positions are
    in float64: float32 would round some of them to the other side of a half.
    """
    values = np.ascontiguousarray(moving).ravel()
    warped = np.empty(disp.shape[1:], dtype=values.dtype)

    def sample_slab(slab: slice) -> None:
        index = np.zeros((), dtype=np.int64)
        coords = _positions(disp, slab)
        inside = _inside(coords, moving.shape)
        coords += 0.5
        for coord, size in zip(np.floor(coords, out=coords), moving.shape, strict=True):
            index = index * size + np.clip(coord, 0, size - 1).astype(np.int64)
        np.multiply(values[index], inside, out=warped[slab])

    map_slabs(sample_slab, disp.shape[1:])
    return warped


def outside_fraction(disp: FullField, moving_shape: tuple[int, ...]) -> float:
    """Return the fraction of voxels that are sampled outside the moving volume."""
    counts = map_slabs(
        lambda slab: int(_inside(_positions(disp, slab), moving_shape).sum()), disp.shape[1:]
    )
    return 1 - sum(counts) / int(disp[0].size)


def map_slabs(function: Callable[[slice], T], shape: tuple[int, ...]) -> list[T]:
    """Apply a function to slabs of a volume in parallel threads, and return its results in order.

    A slab is a range along the first axis that fits the processor's cache. Threads run in parallel
    because NumPy releases the interpreter lock; each call of NumPy computes in one thread.

    Args:
        function: Function of a range along the first axis.
        shape: Shape of the volume.
    """
    planes = max(1, _SLAB_VOXELS // (shape[1] * shape[2]))
    slabs = [slice(start, min(start + planes, shape[0])) for start in range(0, shape[0], planes)]
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        return list(threads.map(function, slabs))


def _positions(disp: FullField, slab: slice) -> Float64[np.ndarray, "3 planes j k"]:
    """Return the positions at which the voxels of a slab are sampled, in moving voxels."""
    coords = disp[:, slab].astype(np.float64)
    i, j, k = (np.arange(size, dtype=np.float64) for size in disp.shape[1:])
    coords[0] += i[slab, None, None]
    coords[1] += j[:, None]
    coords[2] += k
    return coords


def _inside(
    coords: Float64[np.ndarray, "3 planes j k"], shape: tuple[int, ...]
) -> Bool[np.ndarray, "planes j k"]:
    """Return which positions lie inside a grid of this shape."""
    inside = np.ones(coords.shape[1:], dtype=bool)
    for coord, size in zip(coords, shape, strict=True):
        inside &= (coord >= 0) & (coord <= size - 1)
    return inside


def dice(fixed: Labels, warped: Labels, labels: Iterable[int]) -> dict[int, float]:
    """Return the Dice coefficient of each label; 0 if the label is in neither map."""
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
    """Return the joint histogram of two label maps: voxel counts of each pair of labels.

    Args:
        fixed: Label map whose labels are the rows.
        warped: Label map whose labels are the columns.
        labels: Labels of rows and columns from index 1; index 0 counts all other labels.
    """
    rank = np.zeros(2**16, dtype=np.int64)  # a negative label indexes from the end, where rank is 0
    labels = list(labels)
    rank[labels] = np.arange(1, len(labels) + 1)
    n = len(labels) + 1

    def count(slab: slice) -> np.ndarray:
        codes = rank[fixed[slab]] * n
        codes += rank[warped[slab]]
        return np.bincount(codes.ravel(), minlength=n * n)

    counts: np.ndarray = np.sum(map_slabs(count, fixed.shape), axis=0)
    return counts.reshape(n, n)


def tre_mm(
    disp: FullField,
    fixed_points: PointsArray,
    moving_points: PointsArray,
    spacing_mm: tuple[float, float, float],
) -> Float[np.ndarray, " n"]:
    """Return the target registration error (TRE) of each landmark, in mm.

    The field is sampled by cubic spline and is 0 outside the grid.

    Args:
        disp: Displacement field, in voxels of the full grid.
        fixed_points: Landmarks of the fixed scan, in voxels.
        moving_points: Corresponding landmarks of the moving scan, row by row, in voxels.
        spacing_mm: Voxel size.
    """
    displacements = np.stack([sample_cubic(disp, point) for point in fixed_points])
    error = (fixed_points + displacements - moving_points) * np.array(spacing_mm)
    distance: np.ndarray = np.linalg.norm(error, axis=1)
    return distance


def sample_cubic(disp: FullField, point: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3"]:
    """Sample ``disp`` at one position, as ``scipy.ndimage.map_coordinates`` of order 3 does.

    The spline is linear in the samples and separable: the value is a product with one row of
    weights per axis, and weights vanish beyond ``_SPLINE_RADIUS`` voxels. The value has the
    precision of ``disp``, as in SciPy.
    """
    shape = disp.shape[1:]
    if any(not 0 <= x <= size - 1 for x, size in zip(point, shape, strict=True)):
        return np.zeros(3)
    ranges, weights = [], []
    for x, size in zip(point, shape, strict=True):
        near = slice(max(0, int(x) - _SPLINE_RADIUS), min(size, int(x) + _SPLINE_RADIUS))
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
        weights += weight * prefilter[_mirror_index(knot, size)]
    return weights


@lru_cache(maxsize=16)
def _cubic_prefilter(size: int) -> Float64[np.ndarray, "size size"]:
    """Return SciPy's cubic spline prefilter with mirrored ends as a matrix."""
    if size == 1:
        return np.eye(1)
    matrix: np.ndarray = spline_filter1d(np.eye(size), order=3, axis=0, mode="mirror")
    return matrix


def _mirror_index(index: int, size: int) -> int:
    """Return the index inside the grid that ``index`` is mirrored to at the ends."""
    period = max(2 * (size - 1), 1)
    index = abs(index) % period
    return min(index, period - index)
