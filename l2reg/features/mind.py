"""MIND-SSC: self-similarity context, descriptors for scans of different modalities.

Heinrich et al. 2013.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from l2reg.geometry.filters import box_mean_
from l2reg.shapes import Image, Maps

# The six neighbours of a voxel, and the twelve pairs of them that are not opposite.
NEIGHBOURS = [(-1, 0, 0), (1, 0, 0), (0, -1, 0), (0, 1, 0), (0, 0, -1), (0, 0, 1)]


EDGES = [
    (a, b)
    for a, b in combinations(range(6), 2)
    if sum((x - y) ** 2 for x, y in zip(NEIGHBOURS[a], NEIGHBOURS[b], strict=True)) == 2
]


NOISE = 1e-6  # added to v, as a fraction of the squared range: 0.001 of the range is no structure
_SLAB_VALUES = 2**19  # of the twelve channels on the CPU: a slab stays in its cache


def mind_ssc(
    image: Float[Tensor, "b 1 i j k"], *, radius: int, dilation: int
) -> Float[Tensor, "b 12 i j k"]:
    """Return the twelve self-similarity descriptors of every voxel.

    Each compares two patches that lie beside the voxel and are not opposite: ``exp(-d / v)``, where
    d is their mean squared difference minus the smallest of the twelve, and v is the mean of the
    twelve d, kept within a factor of 1000 of its mean over the image, plus ``NOISE`` times the
    squared range of the image's intensities. Gain, offset and inversion have no influence.

    Args:
        image: Image of one channel, with intensities of any scale.
        radius: Radius of the patches: their edge is ``2 * radius + 1`` voxels.
        dilation: Distance of the patches from the voxel, in voxels.

    Returns:
        Twelve channels in (0, 1]; 1 everywhere for a constant image.
    """
    image = image.to(torch.promote_types(image.dtype, torch.float32))
    padded = F.pad(_scale_to_unit_range(image), [dilation] * 6, mode="replicate")
    return cast(Tensor, _Descriptors.apply(padded, radius, dilation))  # type: ignore[no-untyped-call]


class _Descriptors(torch.autograd.Function):
    """The descriptors of a padded image, with their gradient in closed form.

    Twelve distances are kept for it, and nothing else of twelve channels is made twice.
    """

    @staticmethod
    def forward(ctx: Any, padded: Tensor, radius: int, dilation: int) -> Tensor:
        neighbours = [_shift(padded, offset, dilation) for offset in NEIGHBOURS]
        shape = (len(padded), len(EDGES), *neighbours[0].shape[2:])
        distance = padded.new_empty(shape)
        for n, (a, b) in enumerate(EDGES):
            torch.sub(neighbours[a], neighbours[b], out=distance[:, n : n + 1]).square_()
        box_mean_(distance, 2 * radius + 1)
        variance = torch.empty_like(distance[:, :1])
        for part in _planes(distance):
            distance[part].sub_(distance[part].amin(dim=1, keepdim=True))
            torch.mean(distance[part], dim=1, keepdim=True, out=variance[part])
        typical = variance.mean(dim=(1, 2, 3, 4), keepdim=True)
        clamped = variance.clamp(typical * 1e-3, typical * 1e3)
        free = clamped == variance
        variance = clamped.add_(NOISE)
        descriptors = distance if not ctx.needs_input_grad[0] else torch.empty_like(distance)
        for part in _planes(distance):
            torch.div(distance[part], variance[part], out=descriptors[part]).neg_().exp_()
        ctx.settings = (radius, dilation)
        ctx.save_for_backward(padded, distance, variance, free)
        return descriptors

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        padded, distance, variance, free = ctx.saved_tensors
        radius, dilation = ctx.settings
        of_distance = torch.empty_like(distance)
        for part in _planes(distance):
            ratio = distance[part] / variance[part]
            slope = torch.exp(-ratio).mul_(gradient[part]).div_(variance[part])
            of_variance = (slope * ratio).sum(dim=1, keepdim=True).mul_(free[part])
            slope.neg_().add_(of_variance, alpha=1 / len(EDGES))
            lowest = (distance[part] == 0).to(slope.dtype)
            lowest /= lowest.sum(dim=1, keepdim=True)
            slope.addcmul_(lowest, slope.sum(dim=1, keepdim=True), value=-1)
            of_distance[part] = slope
        box_mean_(of_distance, 2 * radius + 1, transposed=True)
        of_padded = torch.zeros_like(padded)
        for n, (a, b) in enumerate(EDGES):
            first, second = (_shift(padded, NEIGHBOURS[side], dilation) for side in (a, b))
            slope = (first - second).mul_(of_distance[:, n : n + 1]).mul_(2)
            _shift(of_padded, NEIGHBOURS[a], dilation).add_(slope)
            _shift(of_padded, NEIGHBOURS[b], dilation).sub_(slope)
        return of_padded, None, None


def _planes(maps: Maps) -> Iterator[tuple[slice, ...]]:
    """Return parts of maps along i that stay in the cache of a CPU."""
    n_planes = maps.shape[2]
    size = n_planes
    if maps.device.type == "cpu":
        size = max(1, _SLAB_VALUES * n_planes // maps[:1].numel())
    for start in range(0, n_planes, size):
        yield (slice(None), slice(None), slice(start, start + size))


def _scale_to_unit_range(image: Image) -> Image:
    """Return ``image`` with intensities from 0 to 1, pair by pair; 0 if it is constant.

    A range of less than a thousandth of the largest intensity may be rounding: it stays smaller
    than 1, so that rounding stays below ``NOISE``.
    """
    axes = (1, 2, 3, 4)
    low, high = (extreme(image.detach(), axes, True) for extreme in (torch.amin, torch.amax))
    length = torch.maximum(high - low, 1e-3 * torch.maximum(high.abs(), low.abs()))
    return (image - low) / torch.where(length > 0, length, 1)


def _shift(padded: Tensor, offset: tuple[int, ...], dilation: int) -> Tensor:
    """Return the view of every voxel's neighbour at ``dilation * offset``, without the margin."""
    i, j, k = (
        slice(dilation * (1 + step), dilation * (step - 1) + size)
        for step, size in zip(offset, padded.shape[2:], strict=True)
    )
    return padded[:, :, i, j, k]


@dataclass(frozen=True)
class Mind:
    """Feature extractor of self-similarity descriptors (``mind_ssc``), for different modalities.

    Attributes:
        radius: Radius of the patches, in voxels.
        dilation: Distance of the patches from the voxel, in voxels.
    """

    radius: int
    dilation: int

    def __post_init__(self) -> None:
        if self.radius < 1 or self.dilation < 1:
            raise ValueError(
                f"radius and dilation must be 1 or more, got {self.radius}, {self.dilation}"
            )

    @property
    def reach(self) -> int:
        """Distance in voxels up to which the features of a voxel depend on others."""
        return self.radius + self.dilation

    def __call__(self, fixed: Image, moving: Image) -> tuple[Maps, Maps]:
        """Return the descriptors of both images, twelve channels each."""
        first, second = (
            mind_ssc(image, radius=self.radius, dilation=self.dilation) for image in (fixed, moving)
        )
        return first, second
