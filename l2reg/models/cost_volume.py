"""Cost volume: local correlation of two feature maps, in less memory than autograd needs."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from l2reg.shapes import Image

_SLAB_VALUES = 2**18  # of a feature map on the CPU: a slab stays in the cache


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
    """Local correlation, one product of a slab with a window of the moving map per offset.

    A slab of all channels stays in the cache over all offsets. No tensor of ``channels x offsets``
    values is ever made, and the backward pass needs the two inputs alone.
    """

    @staticmethod
    def forward(ctx: Any, fixed: Tensor, moving: Tensor, radius: int) -> Tensor:
        ctx.save_for_backward(fixed, moving)
        ctx.radius = radius
        pairs, channels, *shape = fixed.shape
        padded = F.pad(moving, [radius] * 6)
        costs = fixed.new_empty(pairs, (2 * radius + 1) ** 3, *shape)
        for planes in _slabs(fixed):
            slab = fixed[:, :, planes] / channels
            products = torch.empty_like(slab)
            for n, window in enumerate(_windows(shape, planes, radius)):
                torch.mul(slab, padded[window], out=products)
                torch.sum(products, dim=1, out=costs[:, n, planes])
        return costs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        fixed, moving = ctx.saved_tensors
        radius = ctx.radius
        padded = F.pad(moving, [radius] * 6)
        of_fixed, of_padded = map(torch.zeros_like, (fixed, padded))
        for planes in _slabs(fixed):
            slab, of_slab = fixed[:, :, planes], of_fixed[:, :, planes]
            for n, window in enumerate(_windows(fixed.shape[2:], planes, radius)):
                upstream = gradient[:, n : n + 1, planes]
                of_slab.addcmul_(upstream, padded[window])
                of_padded[window].addcmul_(upstream, slab)
        inner = slice(radius, -radius)
        of_moving = of_padded[:, :, inner, inner, inner]
        return of_fixed.div_(fixed.shape[1]), of_moving / fixed.shape[1], None


def _slabs(features: Image) -> Iterator[slice]:
    """Return slices along i that are small enough for the cache of a CPU."""
    n_planes = features.shape[2]
    size = n_planes
    if features.device.type == "cpu":
        size = max(1, _SLAB_VALUES * n_planes // features.numel())
    for start in range(0, n_planes, size):
        yield slice(start, min(start + size, n_planes))


def _windows(shape: Sequence[int], planes: slice, radius: int) -> Iterator[tuple[slice, ...]]:
    """Return the window of the padded moving map that each offset takes a slab to."""
    _, j, k = shape
    for di, dj, dk in product(range(2 * radius + 1), repeat=3):
        along_i = slice(planes.start + di, planes.stop + di)
        yield (slice(None), slice(None), along_i, slice(dj, dj + j), slice(dk, dk + k))
