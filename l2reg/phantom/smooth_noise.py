"""Smooth random fields on any device: cubic B-splines of random numbers."""

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from l2reg.geometry.resize import apply_separable
from l2reg.shapes import Maps

_DEVIATION = 0.33  # of a cubic B-spline in three dimensions, for coefficients of deviation 1


def smooth_noise(
    shape: tuple[int, int], size: int, *, grain: float, generator: torch.Generator
) -> Maps:
    """Return smooth noise of mean 0 and standard deviation about 1, on cubes of ``size`` voxels.

    Args:
        shape: Numbers of pairs and of channels.
        size: Number of voxels along each axis.
        grain: Distance between the knots of the spline, in voxels.
        generator: Random numbers; the result is on its device.
    """
    n_knots = math.ceil((size - 1) / grain) + 4
    device = generator.device
    knots = torch.randn(*shape, n_knots, n_knots, n_knots, generator=generator, device=device)
    weights = _spline_on(size, grain, n_knots, device)
    return apply_separable(knots / _DEVIATION, [weights] * 3)


@lru_cache(maxsize=64)
def _spline_on(size: int, grain: float, n_knots: int, device: torch.device) -> Tensor:
    with torch.inference_mode(mode=False):  # as in ``geometry.constants``
        return torch.from_numpy(_spline(size, grain, n_knots)).to(device, torch.float32)


def _spline(size: int, grain: float, n_knots: int) -> np.ndarray:
    """Return the values (size, n_knots) of the cubic B-splines of all knots at all voxels."""
    distance = np.abs(np.arange(size)[:, None] / grain + 1.5 - np.arange(n_knots))
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    values: np.ndarray = np.where(distance < 1, near, far)
    return values
