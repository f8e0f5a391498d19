"""Warped scan: a moving scan in its own intensities on the fixed grid, as ITK resamples it."""

import numpy as np
import torch
from jaxtyping import Float32

from l2reg.geometry.warp import warp_with_fill
from l2reg.shapes import Field

_AIR = -1024.0  # HU of the voxels beyond a CT, by convention
_LUNG = -500.0  # HU; only a CT in Hounsfield units has intensities down to here


def fill_value(moving: Float32[np.ndarray, "mi mj mk"]) -> float:
    """Return the intensity of voxels outside the moving scan: its minimum, or -1024 HU for CT.

    A scan with intensities of -500 and below is a CT in Hounsfield units, whose lowest intensity
    may be padding far below that of air (-3024 and -2000 occur).

    Args:
        moving: Intensities of the moving scan.
    """
    lowest = float(moving.min())
    return _AIR if lowest <= _LUNG else lowest


def warped_scan(
    moving: Float32[np.ndarray, "mi mj mk"], disp: Field
) -> Float32[np.ndarray, "i j k"]:
    """Return the moving scan on the fixed grid, interpolated linearly; outside is ``fill_value``.

    It equals ITK's resampling with ``fill_value`` as default pixel value.

    Args:
        moving: Intensities of the moving scan.
        disp: Field from fixed to moving voxels, of one pair.
    """
    volume = torch.from_numpy(moving)[None, None]
    warped: np.ndarray = warp_with_fill(volume, disp, fill_value(moving))[0, 0].numpy()
    return warped
