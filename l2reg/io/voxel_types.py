"""Voxel types: how a file stores intensities, and how others are stored in the same way."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Shaped

_EXACT = 2.0**53  # beyond it float64 has gaps, and the ends of 64-bit integers would overflow


@dataclass(frozen=True)
class VoxelType:
    """Data type of a file, and the scaling by which its numbers become intensities.

    Attributes:
        dtype: Data type of the numbers in the file.
        slope: Scale factor (``scl_slope``) of integers; not 0.
        intercept: Offset (``scl_inter``): an intensity is ``slope * number + intercept``.
    """

    dtype: np.dtype
    slope: float = 1.0
    intercept: float = 0.0

    def encode(self, intensities: Float32[np.ndarray, "*shape"]) -> Shaped[np.ndarray, "*shape"]:
        """Return the numbers that stand for intensities in a file, in native byte order.

        Integers are rounded to the nearest that the type has. Floats are stored in 32 bits, or in
        64 if the type has as many.
        """
        if self.dtype.kind == "f":
            return intensities.astype(np.float64 if self.dtype.itemsize >= 8 else np.float32)
        limits = np.iinfo(self.dtype)
        numbers = (intensities.astype(np.float64) - self.intercept) / self.slope
        rounded = np.rint(numbers)
        clipped = np.clip(rounded, max(limits.min, -_EXACT), min(limits.max, _EXACT))
        return clipped.astype(self.dtype.newbyteorder("="))

    def nearest(self, intensity: float) -> float:
        """Return the intensity nearest to a given one that the type can store."""
        number = self.encode(np.array([intensity], dtype=np.float32))[0]
        return float(number) if self.dtype.kind == "f" else self.slope * number + self.intercept
