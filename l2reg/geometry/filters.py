"""Box filters: one cuts the box off at the border of the volume, the other repeats the edge.

Sums over a window are made of sums over 2, 4, 8 ... voxels: few additions, and no differences of
running sums, which would cancel. They are taken slab by slab, so that a slab stays in the cache.
"""

from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from l2reg.shapes import Image, Mask

_SLAB_VALUES = 2**19  # of a slab on the CPU: it and its partial sums stay in the cache

AxisFilter = Callable[[Tensor, int], Tensor]


def box_mean(volume: Image, window: int) -> Image:
    """Return the mean over a cube around every voxel; cubes are cut off at the border.

    Along an axis with fewer voxels than ``window`` the width is the largest odd number that fits.

    Args:
        volume: Volume to filter, in float32 or float64.
        window: Edge length of the cube, an odd number of voxels.
    """
    return cast(Tensor, _BoxMean.apply(volume, window, False))  # type: ignore[no-untyped-call]


def box_mean_(volume: Image, window: int, *, transposed: bool = False) -> Image:
    """Replace ``volume``, which is contiguous, by its ``box_mean`` and return it; no gradient.

    Args:
        volume: Volume to filter.
        window: Edge length of the cube, an odd number of voxels.
        transposed: Whether the transposed filter is applied, which is that of the gradient.
    """
    widths = [min(window, voxels - 1 + voxels % 2) for voxels in volume.shape[2:]]

    def mean(part: Tensor, axis: int) -> Tensor:
        width, voxels = widths[axis], part.shape[1 + axis]
        if width == 1:
            return part
        scale = _reciprocal_counts(voxels, width, part, axis)
        total = _window_sum(
            _pad(part * scale if transposed else part, axis, width // 2), width, axis
        )
        return total if transposed else total.mul_(scale)

    return _filter_(volume, mean)


def smooth(volume: Image, passes: int) -> Image:
    """Return ``volume`` after ``passes`` box means over three voxels along each axis.

    The edge voxels are repeated beyond the border, which makes the filter self-adjoint. Two passes
    are nearly a cubic B-spline filter.
    """
    if passes == 0:
        return volume
    return cast(Tensor, _Smooth.apply(volume, passes))  # type: ignore[no-untyped-call]


def box_maximum(volume: Image, radius: int) -> Image:
    """Return the maximum over the cube of ``2 * radius + 1`` voxels around every voxel.

    The cube is cut off at the border. The maximum is taken axis by axis.
    """
    for axis in range(3):
        window, padding = [1, 1, 1], [0, 0, 0]
        window[axis], padding[axis] = 2 * radius + 1, radius
        volume = F.max_pool3d(volume, window, stride=1, padding=padding)
    return volume


def erode(mask: Mask, radius: int) -> Mask:
    """Return the minimum of ``mask`` over the cube of ``2 * radius + 1`` voxels around every voxel.

    The cube is cut off at the border: a mask of ones stays as it is.
    """
    if radius == 0:
        return mask
    return 1 - box_maximum(1 - mask, radius)


class _BoxMean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, volume: Tensor, window: int, transposed: bool) -> Tensor:
        ctx.arguments = (window, transposed)
        copy = volume.clone(memory_format=torch.contiguous_format)
        return box_mean_(copy, window, transposed=transposed)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        window, transposed = ctx.arguments
        return _BoxMean.apply(gradient, window, not transposed), None, None  # type: ignore[no-untyped-call]


class _Smooth(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, volume: Tensor, passes: int) -> Tensor:
        ctx.passes = passes

        def mean(part: Tensor, axis: int) -> Tensor:
            for _ in range(passes):
                part = _window_sum(_repeat_edges(part, axis), 3, axis)
            return part.mul_(3.0**-passes)

        return _filter_(volume.clone(memory_format=torch.contiguous_format), mean)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Smooth.apply(gradient, ctx.passes), None  # type: ignore[no-untyped-call]


def _filter_(volume: Image, along: AxisFilter) -> Image:
    """Replace ``volume`` by itself filtered along k, j and i, slab by slab; return it.

    Args:
        volume: Contiguous volume.
        along: Filters a part of shape ``(n, i, j, k)`` along one of its axes 0 to 2.
    """
    b, c, i, j, k = volume.shape
    planes = volume.view(b * c * i, 1, j, k)
    for part in _slabs(planes, 0):
        part.copy_(along(along(part, 2), 1))
    columns = volume.view(b * c, i, j * k, 1)
    if columns[:1].numel() <= _SLAB_VALUES:
        parts = _slabs(columns, 0)
    else:
        parts = (part for channel in columns for part in _slabs(channel[None], 2))
    for part in parts:
        part.copy_(along(part, 0))
    return volume


def _slabs(values: Tensor, axis: int) -> Iterator[Tensor]:
    """Return parts of ``values`` along an axis that are small enough for the cache of a CPU."""
    if values.device.type != "cpu":
        return iter([values])
    size = max(1, _SLAB_VALUES * values.shape[axis] // max(1, values.numel()))
    return iter(torch.split(values, size, dim=axis))


def _window_sum(padded: Float[Tensor, "n i j k"], width: int, axis: int) -> Tensor:
    """Return the sums over ``width`` neighbours along an axis, ``width - 1`` voxels fewer.

    A sum over ``width`` voxels is put together from sums over powers of two, as its binary digits
    say.
    """
    dim, n = 1 + axis, padded.shape[1 + axis] - width + 1
    total, start, size, sums = None, 0, 1, padded
    while size <= width:
        if size > 1:
            n_sums = sums.shape[dim] - size // 2
            sums = sums.narrow(dim, 0, n_sums) + sums.narrow(dim, size // 2, n_sums)
        if width & size:
            part = sums.narrow(dim, start, n)
            total = part if total is None else total + part
            start += size
        size *= 2
    return cast(Tensor, total)


def _pad(part: Float[Tensor, "n i j k"], axis: int, margin: int) -> Tensor:
    """Return ``part`` with zeros on both sides of an axis."""
    padding = [0] * 6
    padding[4 - 2 * axis : 6 - 2 * axis] = [margin, margin]
    return F.pad(part, padding)


def _repeat_edges(part: Float[Tensor, "n i j k"], axis: int) -> Tensor:
    """Return ``part`` with its first and last voxel along an axis repeated once."""
    dim, last = 1 + axis, part.shape[1 + axis] - 1
    return torch.cat([part.narrow(dim, 0, 1), part, part.narrow(dim, last, 1)], dim=dim)


def _reciprocal_counts(voxels: int, width: int, like: Tensor, axis: int) -> Tensor:
    """Return one over the number of voxels in the window around each voxel of an axis."""
    at = torch.arange(voxels, device=like.device)
    radius = width // 2
    counts = (at + radius).clamp(max=voxels - 1) - (at - radius).clamp(min=0) + 1
    line = [-1 if a == axis else 1 for a in range(3)]
    return (1 / counts.to(like.dtype)).view(line)
