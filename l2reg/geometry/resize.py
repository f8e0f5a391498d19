"""Change the grid of an image, a label map, a field or a set of points.

Grids are corner-aligned: the centres of the corner voxels stay where they are, so along each
axis one old voxel spans ``(new - 1) / (old - 1)`` new ones. That is not ``new / old``.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from l2reg.geometry.warp import voxel_grid, warp
from l2reg.shapes import Field, Image, LabelMap, Points, Shape3


def voxel_ratio(old: Sequence[int], new: Sequence[int]) -> list[float]:
    """Return how many voxels of the new grid one voxel of the old grid spans, per axis.

    An axis of one voxel has no length; its ratio is 1.
    """
    return [
        (after - 1) / (before - 1) if before > 1 and after > 1 else 1.0
        for before, after in zip(old, new, strict=True)
    ]


def resize_field(disp: Field, shape: Shape3) -> Float[Tensor, "b 3 new_i new_j new_k"]:
    """Return ``disp`` on a grid of ``shape``, its values in voxels of that grid.

    The deformation stays the same; a submission, whose values stay in voxels of the full grid,
    is written by ``submission/fields.py`` instead.
    """
    return resample(disp, shape) * _column(disp, voxel_ratio(disp.shape[2:], shape))


def resize_image(image: Image, shape: Shape3) -> Float[Tensor, "b c new_i new_j new_k"]:
    """Return ``image`` on a grid of ``shape``.

    Axes that shrink are smoothed first, by a Gaussian of half the lost voxels (scikit-image's
    rule: a factor of 2 gives a standard deviation of 0.5 old voxels).
    """
    for axis, ratio in enumerate(voxel_ratio(image.shape[2:], shape)):
        if ratio < 1:
            image = _smooth_along(image, axis, sigma=(1 / ratio - 1) / 2)
    return resample(image, shape)


def resize_labels(labels: LabelMap, shape: Shape3) -> Int[Tensor, "b 1 new_i new_j new_k"]:
    """Return ``labels`` on a grid of ``shape``: every voxel takes the label of the nearest one."""
    like = torch.empty((1, 1, *shape), device=labels.device)
    ratio = _column(like, voxel_ratio(shape, labels.shape[2:]))
    disp = voxel_grid(like) * (ratio - 1)
    nearest = warp(
        labels.float(), disp.expand(len(labels), -1, -1, -1, -1), interpolation="nearest"
    )
    return nearest.to(labels.dtype)


def resize_points(points: Points, old: Sequence[int], new: Sequence[int]) -> Points:
    """Return positions in voxels of a grid of shape ``old`` in voxels of one of shape ``new``."""
    return points * points.new_tensor(voxel_ratio(old, new))


def resample(volume: Image, shape: Shape3) -> Float[Tensor, "b c new_i new_j new_k"]:
    """Return ``volume`` sampled on a corner-aligned grid of ``shape``, its values unchanged."""
    return F.interpolate(volume, size=shape, mode="trilinear", align_corners=True)


def _smooth_along(image: Image, axis: int, *, sigma: float) -> Image:
    """Convolve with a Gaussian along one spatial axis, repeating the edge voxels."""
    radius = max(1, round(3 * sigma))
    offsets = torch.arange(-radius, radius + 1, dtype=image.dtype, device=image.device)
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel_shape = [1, 1, 1, 1, 1]
    kernel_shape[2 + axis] = -1
    kernel = (weights / weights.sum()).view(kernel_shape)
    padding = [0] * 6
    padding[4 - 2 * axis] = padding[5 - 2 * axis] = radius  # F.pad counts axes from the last
    padded = F.pad(image, padding, mode="replicate")
    channels = image.shape[1]
    return F.conv3d(padded, kernel.expand(channels, 1, -1, -1, -1), groups=channels)


def _column(like: Shaped[Tensor, "b c i j k"], values: Sequence[Any]) -> Float[Tensor, "3 1 1 1"]:
    return like.new_tensor(values).view(3, 1, 1, 1)
