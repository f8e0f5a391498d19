"""Warped scans and labels: a moving volume on the fixed grid, as ITK resamples it."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float32, Shaped
from scipy.ndimage import map_coordinates

from l2reg.geometry.warp import inside_scan, voxel_coords, warp_with_fill
from l2reg.io.headers import Placement
from l2reg.io.volumes import write_volume
from l2reg.io.voxel_types import VoxelType
from l2reg.shapes import Field

ScanInterpolation = Literal["linear", "cubic"]

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
    moving: Shaped[np.ndarray, "mi mj mk"], disp: Field
) -> Shaped[np.ndarray, "i j k"]:
    """Return the moving labels on the fixed grid, as ITK does: those of the nearest voxel.

    Halves round up. Outside the volume, half a voxel beyond its outermost centres, is 0.

    Args:
        moving: Label map.
        disp: Field from fixed to moving voxels, of one pair.
    """
    index = torch.floor(disp.double() + voxel_coords(disp.double()) + 0.5).long()[0]
    last = torch.tensor(moving.shape).view(3, 1, 1, 1) - 1
    i, j, k = torch.minimum(index.clamp(min=0), last).numpy()
    inside = inside_scan(disp, moving.shape)[0, 0].numpy()
    warped: np.ndarray = np.where(inside, moving[i, j, k], moving.dtype.type(0))
    return warped
