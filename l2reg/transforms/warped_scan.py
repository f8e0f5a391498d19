"""Warped scans: a moving scan in its own intensities on the fixed grid, as ITK resamples it."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32

from l2reg.geometry.warp import warp_with_fill
from l2reg.io.headers import Placement
from l2reg.io.volumes import write_volume
from l2reg.io.voxel_types import VoxelType
from l2reg.shapes import Field

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
    volume = torch.from_numpy(moving)[None, None]
    warped = warp_with_fill(volume, disp, fill_value(moving, voxel_type))[0, 0].numpy()
    write_volume(path, voxel_type.encode(warped), place, scaling=voxel_type)
