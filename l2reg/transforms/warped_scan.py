"""Warped scans and labels: a moving volume on the fixed grid, as ITK resamples it."""

from itertools import product
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float32, Float64, Shaped
from scipy.ndimage import map_coordinates

from l2reg.geometry.warp import inside_scan, voxel_coords, warp_with_fill
from l2reg.io.headers import Placement
from l2reg.io.volumes import write_volume
from l2reg.io.voxel_types import VoxelType
from l2reg.shapes import Field

ScanInterpolation = Literal["linear", "cubic"]
LabelInterpolation = Literal["nearest", "label-linear"]
SCAN_INTERPOLATIONS: tuple[ScanInterpolation, ...] = get_args(ScanInterpolation)
LABEL_INTERPOLATIONS: tuple[LabelInterpolation, ...] = get_args(LabelInterpolation)

_AIR = -1024.0  # HU of the voxels beyond a CT, by convention
_LUNG = -500.0  # HU; only a CT in Hounsfield units has intensities down to here


def fill_value(moving: Float32[np.ndarray, "mi mj mk"], voxel_type: VoxelType) -> float:
    """Return the intensity of voxels outside the moving scan: its minimum, or -1024 HU for CT.

    A scan with intensities of -500 and below is a CT in Hounsfield units, whose lowest intensity
    may be padding far below that of air (-3024 and -2000 occur).

    Args:
        moving: Intensities of the moving scan.
        voxel_type: Type in which they are stored. If it has no number for -1024 HU, the nearest is
            used.
    """
    lowest = float(moving.min())
    return voxel_type.nearest(_AIR) if lowest <= _LUNG else lowest


def write_warped_scan(
    path: Path,
    moving: Float32[np.ndarray, "mi mj mk"],
    voxel_type: VoxelType,
    disp: Field,
    place: Placement,
) -> None:
    """Write the moving scan on the fixed grid, interpolated linearly; outside is ``fill_value``.

    The file equals ITK's resampling with ``fill_value`` as default pixel value, rounded to the
    nearest number of the moving scan's voxel type, in which it is stored.

    Args:
        path: File to write, ``.nii.gz``.
        moving: Intensities of the moving scan.
        voxel_type: Type in which they are stored.
        disp: Field from fixed to moving voxels, of one pair.
        place: Place of the fixed scan.
    """
    warped = warp_scan(moving, disp, fill_value(moving, voxel_type), "linear")
    write_volume(path, voxel_type.encode(warped), place, scaling=voxel_type)


def warp_scan(
    moving: Float32[np.ndarray, "mi mj mk"],
    disp: Field,
    fill: float,
    interpolation: ScanInterpolation,
) -> Float32[np.ndarray, "i j k"]:
    """Return the moving scan on the fixed grid.

    Args:
        moving: Intensities of the moving scan.
        disp: Field from fixed to moving voxels, of one pair.
        fill: Intensity outside the moving scan.
        interpolation: ``linear``, or ``cubic``: the B-spline of ``sitkBSpline``, mirrored at the
            faces, which overshoots at edges.
    """
    if interpolation == "linear":
        volume = torch.from_numpy(moving)[None, None]
        linear: np.ndarray = warp_with_fill(volume, disp, fill)[0, 0].numpy()
        return linear
    positions = (disp + voxel_coords(disp))[0].numpy()
    cubic = map_coordinates(moving, positions, order=3, mode="mirror")
    inside = inside_scan(disp, moving.shape)[0, 0].numpy()
    return np.where(inside, cubic, np.float32(fill))


def warp_label_map(
    moving: Shaped[np.ndarray, "mi mj mk"],
    disp: Field,
    interpolation: LabelInterpolation = "nearest",
) -> Shaped[np.ndarray, "i j k"]:
    """Return the moving labels on the fixed grid, as ITK does.

    Outside the volume, half a voxel beyond its outermost centres, is 0.

    Args:
        moving: Label map.
        disp: Field from fixed to moving voxels, of one pair.
        interpolation: ``nearest``: the label of the nearest voxel, halves rounded up; or
            ``label-linear``: that whose indicator, interpolated linearly, is largest, the lowest
            of equal ones (Schaerer et al. 2014; ``sitkLabelLinear``, ``GenericLabel`` of ANTs).
    """
    sample = _nearest_labels if interpolation == "nearest" else _likeliest_labels
    positions = disp[0].double() + voxel_coords(disp.double())[0]
    warped: np.ndarray = np.empty(positions.shape[1:], moving.dtype)
    for i, plane in enumerate(positions.movedim(1, 0).numpy()):
        warped[i] = sample(moving, plane.reshape(3, -1)).reshape(warped[i].shape)
    inside = inside_scan(disp, moving.shape)[0, 0].numpy()
    return np.where(inside, warped, moving.dtype.type(0))


def _nearest_labels(
    moving: Shaped[np.ndarray, "mi mj mk"], positions: Float64[np.ndarray, "3 n"]
) -> Shaped[np.ndarray, " n"]:
    last = np.array(moving.shape)[:, None] - 1
    i, j, k = np.clip(np.floor(positions + 0.5).astype(int), 0, last)
    labels: np.ndarray = moving[i, j, k]
    return labels


def _likeliest_labels(
    moving: Shaped[np.ndarray, "mi mj mk"], positions: Float64[np.ndarray, "3 n"]
) -> Shaped[np.ndarray, " n"]:
    """Compare the labels of the eight voxels around: no other has a weight."""
    last = np.array(moving.shape)[:, None] - 1
    positions = np.clip(positions, 0, last)
    first = np.floor(positions).astype(int)
    corners = np.array(list(product((0, 1), repeat=3)))[..., None]
    i, j, k = np.minimum(first + corners, last).swapaxes(0, 1)
    around = moving[i, j, k]
    labels: np.ndarray = around[0]
    mixed = np.flatnonzero((around != labels).any(axis=0))
    around, fraction = around[:, mixed], (positions - first)[:, mixed]
    weights = np.where(corners == 1, fraction, 1 - fraction).prod(axis=1)
    largest = np.zeros(len(mixed))
    for candidate in np.sort(around, axis=0):
        weight = (weights * (around == candidate)).sum(axis=0)
        larger = weight > largest
        labels[mixed[larger]] = candidate[larger]
        largest = np.maximum(largest, weight)
    return labels
