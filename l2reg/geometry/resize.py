"""Resizing: the same image, label map, field or points on a grid of another shape.

Grids are corner-aligned: the centres of the corner voxels keep their positions. Along each axis
one old voxel therefore spans ``(new - 1) / (old - 1)`` new voxels, not ``new / old``.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int, Shaped
from torch import Tensor

from l2reg.geometry.constants import constant
from l2reg.shapes import Field, Image, LabelMap, Points, Shape3


def voxel_ratio(old: Sequence[int], new: Sequence[int]) -> list[float]:
    """Return the number of new voxels that one old voxel spans, for each axis.

    An axis of one voxel has no length; its ratio is 1.

    Args:
        old: Shape of the old grid.
        new: Shape of the new grid.
    """
    return [
        (after - 1) / (before - 1) if before > 1 and after > 1 else 1.0
        for before, after in zip(old, new, strict=True)
    ]


def resize_field(
    disp: Field, shape: Shape3, *, align_corners: bool = True
) -> Float[Tensor, "b 3 new_i new_j new_k"]:
    """Return ``disp`` on a grid of ``shape``, its values in voxels of that grid.

    The deformation stays the same. The values of a submission stay in voxels of the full grid
    instead; ``submission/fields.py`` converts to those.

    Args:
        disp: Field in voxels.
        shape: Shape of the new grid.
        align_corners: See ``resample``.
    """
    resampled = resample(disp, shape, align_corners=align_corners)
    return resampled * _column(disp, voxel_ratio(disp.shape[2:], shape))


def resize_image(image: Image, shape: Shape3) -> Float[Tensor, "b c new_i new_j new_k"]:
    """Return ``image`` on a grid of ``shape``, smoothed first along axes that shrink.

    The standard deviation of the Gaussian is ``(factor - 1) / 2`` old voxels, where ``factor`` is
    the number of old voxels per new one (scikit-image's rule: 0.5 for a factor of 2).
    """
    sizes = list(zip(image.shape[2:], shape, strict=True))
    shrinking = [1 < new < old for old, new in sizes]
    matrices = [
        _shrink_matrix(*both, image) if shrinks else None
        for both, shrinks in zip(sizes, shrinking, strict=True)
    ]
    return resample(apply_separable(image, matrices), shape)


def resize_labels(labels: LabelMap, shape: Shape3) -> Int[Tensor, "b 1 new_i new_j new_k"]:
    """Return ``labels`` on a grid of ``shape``; every voxel has the label of the nearest voxel."""
    for axis, ratio in enumerate(voxel_ratio(shape, labels.shape[2:])):
        if labels.shape[2 + axis] != shape[axis]:
            positions = torch.arange(shape[axis], dtype=torch.float64, device=labels.device)
            labels = labels.index_select(2 + axis, (positions * ratio).round().long())
    return labels


def resize_points(points: Points, old: Sequence[int], new: Sequence[int]) -> Points:
    """Return the same positions in voxels of another grid.

    Args:
        points: Positions in voxels of the old grid.
        old: Shape of the old grid.
        new: Shape of the new grid.
    """
    return points * constant(points, voxel_ratio(old, new))


def resample(
    volume: Image, shape: Shape3, *, align_corners: bool = True
) -> Float[Tensor, "b c new_i new_j new_k"]:
    """Return ``volume`` on a grid of ``shape``, interpolated linearly, without change of unit.

    Args:
        volume: Image or field.
        shape: Shape of the new grid.
        align_corners: Whether the centres of the corner voxels keep their positions, as everywhere
            in l2reg but in published networks; else the outer faces of the corner voxels do.
    """
    if volume.shape[2:] == shape:
        return volume
    return F.interpolate(volume, size=shape, mode="trilinear", align_corners=align_corners)


def apply_separable(
    volume: Image, matrices: Sequence[Float[Tensor, "_ _"] | None]
) -> Float[Tensor, "b c new_i new_j new_k"]:
    """Return ``volume`` multiplied by one matrix along each axis.

    Args:
        volume: Volume to transform.
        matrices: Matrices ``(new, old)`` for the axes i, j and k; ``None`` keeps an axis.
    """
    along_i, along_j, along_k = matrices
    if along_k is not None:
        volume = volume @ along_k.T
    if along_j is not None:
        volume = along_j @ volume
    if along_i is not None:
        b, c, _, j, k = volume.shape
        volume = (along_i @ volume.flatten(start_dim=3)).view(b, c, -1, j, k)
    return volume


def _shrink_matrix(old: int, new: int, like: Tensor) -> Float[Tensor, "new old"]:
    if torch.compiler.is_compiling():  # as in ``geometry.constants``
        return _smoothed_samples(old, new).to(like.device, like.dtype)
    return _shrink_matrix_on(old, new, like.dtype, like.device)


@lru_cache(maxsize=64)
def _shrink_matrix_on(
    old: int, new: int, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "new old"]:
    with torch.inference_mode(mode=False):  # as in ``geometry.constants``
        return _smoothed_samples(old, new).to(device, dtype)


def _smoothed_samples(old: int, new: int) -> Float64[Tensor, "new old"]:
    """Return the matrix that smooths, with repeated edge voxels, and samples ``new`` points."""
    step = (old - 1) / (new - 1)
    sigma = (step - 1) / 2
    radius = max(1, round(3 * sigma))
    offsets = torch.arange(-radius, radius + 1)
    weights = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
    rows = torch.arange(old)
    columns = (rows[:, None] + offsets).clamp(0, old - 1)
    smooth = torch.zeros(old, old, dtype=torch.float64)
    smooth.scatter_add_(1, columns, (weights / weights.sum()).expand(old, -1))
    positions = torch.arange(new).double() * step
    linear = (1 - (positions[:, None] - rows).abs()).clamp(min=0)
    return linear @ smooth


def _column(like: Shaped[Tensor, "b c i j k"], values: Sequence[Any]) -> Float[Tensor, "3 1 1 1"]:
    """Return one value per component, in a shape that multiplies a field."""
    return constant(like, values).view(3, 1, 1, 1)
