"""Affine maps between voxel positions.

A matrix ``(b, 3, 4)`` maps the voxel position ``p`` in the fixed grid to the position
``matrix[:, :3] @ p + matrix[:, 3]`` in the moving grid. This is the direction of a field.
"""

from collections.abc import Sequence
from typing import Literal

import torch

from l2reg.geometry.constants import constant
from l2reg.geometry.resize import voxel_ratio
from l2reg.geometry.warp import voxel_coords
from l2reg.shapes import Affine, Field, Points, Shape3

Motion = Literal["translation", "rigid", "affine"]  # families of maps


def affine_field(matrix: Affine, shape: Shape3) -> Field:
    """Return the displacement field of ``matrix`` on a grid of ``shape``, in voxels."""
    grid = voxel_coords(matrix.new_empty((len(matrix), 1, *shape)))
    moved = torch.einsum("bcd,bdijk->bcijk", matrix[:, :, :3], grid)
    return moved + matrix[:, :, 3, None, None, None] - grid


def apply_affine(matrix: Affine, points: Points) -> Points:
    """Return the positions that ``matrix`` maps ``points`` to, in voxels."""
    return torch.einsum("bcd,bnd->bnc", matrix[:, :, :3], points) + matrix[:, None, :, 3]


def affine_after_field(matrix: Affine, disp: Field) -> Field:
    """Return the field of ``p -> matrix(p + disp(p))``: first the field, then the affine map.

    It is exact, while ``compose`` interpolates. If the field registers an image that was warped by
    ``matrix``, the result registers the original image, which is then resampled only once.
    """
    grid = voxel_coords(disp)
    moved = torch.einsum("bcd,bdijk->bcijk", matrix[:, :, :3], grid + disp)
    return moved + matrix[:, :, 3, None, None, None] - grid


def invert_affine(matrix: Affine) -> Affine:
    """Return the matrix of the inverse map."""
    linear = torch.linalg.inv(matrix[:, :, :3])
    return torch.cat([linear, -linear @ matrix[:, :, 3:]], dim=2)


def compose_affine(outer: Affine, inner: Affine) -> Affine:
    """Return the matrix of ``p -> outer(inner(p))``."""
    linear = outer[:, :, :3] @ inner
    return torch.cat([linear[:, :, :3], linear[:, :, 3:] + outer[:, :, 3:]], dim=2)


def resize_affine(matrix: Affine, old: Sequence[int], new: Sequence[int]) -> Affine:
    """Return the same map on a corner-aligned grid of another shape.

    Args:
        matrix: Affine map in voxels of the old grid.
        old: Shape of the old grid.
        new: Shape of the new grid.
    """
    ratio = constant(matrix, voxel_ratio(old, new))
    scale = torch.cat([ratio[:, None] / ratio, ratio[:, None]], dim=1)
    return matrix * scale


def identity_affine(pairs: int) -> Affine:
    """Return the identity map for each of ``pairs`` pairs."""
    return torch.eye(3, 4).repeat(pairs, 1, 1)
