"""Cost volume: local correlation of two feature maps, in less memory than autograd needs."""

from itertools import product
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from l2reg.shapes import Image

Rows = Float[Tensor, "b i j k c"]
Bands = Float[Tensor, "b i j k window"]


def cost_volume(fixed: Image, moving: Image, radius: int) -> Float[Tensor, "b o i j k"]:
    """Return the correlation of every fixed voxel with the moving voxels around it.

    Channel ``o`` is the mean over channels of ``fixed(p) * moving(p + offset)``. Offsets reach
    ``radius`` voxels along each axis, the last axis fastest. The correlation is 0 where
    ``p + offset`` lies outside the volume.

    Args:
        fixed: Feature map of the fixed image.
        moving: Feature map of the moving image, on the same grid.
        radius: Largest offset along each axis, in voxels.

    Returns:
        ``(2 * radius + 1) ** 3`` channels in float32, even under autocast, or in float64 if the
        features are.
    """
    if fixed.dtype != torch.float64:
        fixed, moving = fixed.float(), moving.float()
    return cast(Tensor, _CostVolume.apply(fixed, moving, radius))  # type: ignore[no-untyped-call]


class _CostVolume(torch.autograd.Function):
    """Local correlation as one matrix product per row of voxels and pair of offsets along i and j.

    Each product multiplies every voxel of a fixed row with every voxel of a moving row; the band
    around its diagonal holds the wanted entries. No tensor of ``channels x offsets`` values is
    ever made, and the backward pass needs the two inputs alone.
    """

    @staticmethod
    def forward(ctx: Any, fixed: Tensor, moving: Tensor, radius: int) -> Tensor:
        ctx.save_for_backward(fixed, moving)
        ctx.radius = radius
        pairs, channels, i, j, k = fixed.shape
        width = 2 * radius + 1
        fixed_rows, moving_rows = _rows(fixed) / channels, _rows(F.pad(moving, [radius] * 6))
        costs = fixed.new_empty(pairs, width, width, width, i, j, k)
        with torch.autocast(fixed.device.type, enabled=False):
            for di, dj in product(range(width), repeat=2):
                shifted = moving_rows[:, di : di + i, dj : dj + j]
                costs[:, di, dj] = _diagonals(fixed_rows @ shifted.mT, width).movedim(-1, 1)
        return costs.view(pairs, width**3, i, j, k)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        fixed, moving = ctx.saved_tensors
        radius = ctx.radius
        pairs, channels, i, j, k = fixed.shape
        width = 2 * radius + 1
        gradient = gradient.reshape(pairs, width, width, width, i, j, k)
        fixed_rows, moving_rows = _rows(fixed), _rows(F.pad(moving, [radius] * 6))
        fixed_gradient, moving_gradient = map(torch.zeros_like, (fixed_rows, moving_rows))
        bands = fixed.new_zeros(pairs, i, j, k, k + 2 * radius)
        with torch.autocast(fixed.device.type, enabled=False):
            for di, dj in product(range(width), repeat=2):
                window = (slice(None), slice(di, di + i), slice(dj, dj + j))
                _diagonals(bands, width).copy_(gradient[:, di, dj].movedim(1, -1))
                fixed_gradient += bands @ moving_rows[window]
                moving_gradient[window] += bands.mT @ fixed_rows
        inner = slice(radius, -radius)
        moving_gradient = moving_gradient[:, inner, inner, inner]
        return *(rows.movedim(-1, 1) / channels for rows in (fixed_gradient, moving_gradient)), None


def _rows(features: Image) -> Rows:
    """Return ``features`` with the channels last, so that a row of voxels along k is a matrix."""
    return features.movedim(1, -1).contiguous()


def _diagonals(bands: Bands, width: int) -> Float[Tensor, "b i j k width"]:
    """Return a view of the ``width`` diagonals: entry ``(k, d)`` is ``bands[..., k, k + d]``."""
    *outer, k, window = bands.shape
    strides = bands.stride()[:-2]
    return bands.as_strided([*outer, k, width], [*strides, window + 1, 1])
