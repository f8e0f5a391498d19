"""Overlap of a fixed label map with a warped one, without a volume for each label.

The warped one-hot volume of a label l is ``W_l(p)``: the sum of the linear weights of those of the
eight voxels around ``p + disp(p)`` that have label l. Its sums over the volume need nothing but the
eight labels around each position. Where these are equal the sums do not depend on the field: only
voxels at the borders of labels have a gradient, which is written in closed form.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor
from torch.autograd.function import once_differentiable

from l2reg.shapes import Field, LabelMap

_SLAB_VOXELS = 2**17  # on the CPU: the labels and weights of a slab stay in its cache

_MARGIN = 2  # voxels without a label around the moving scan: the outer cubes have none at all

Corners = Float[Tensor, "8 n"]  # the last axis fastest
PerLabel = Float[Tensor, " l"]


def label_overlap(
    fixed: LabelMap,
    moving: Integer[Tensor, "b 1 mi mj mk"],
    disp: Field,
    labels: Sequence[int],
) -> tuple[PerLabel, PerLabel]:
    """Return ``sum_p W_l(p) * F_l(p)`` and ``sum_p W_l(p) ** 2`` for every label of one pair.

    ``F_l`` is the fixed one-hot volume of label l, ``W_l`` the warped moving one, interpolated
    linearly and 0 outside the moving volume. Both sums have a gradient with respect to the field.

    Args:
        fixed: Fixed labels.
        moving: Moving labels, on a grid of any shape.
        disp: Field from fixed to moving grid, in voxels.
        labels: Labels that count, without 0.

    Returns:
        Two sums for each label, in float64.
    """
    classes = [_classes(label_map[0, 0], labels) for label_map in (fixed, moving)]
    overlap, squares = _LabelOverlap.apply(*classes, disp, len(labels))  # type: ignore[no-untyped-call]
    return overlap, squares


class _LabelOverlap(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, fixed: Tensor, moving: Tensor, disp: Tensor, n_labels: int
    ) -> tuple[Tensor, Tensor]:
        ctx.shape, ctx.dtype, ctx.borders = disp.shape, disp.dtype, []
        overlap, squares = disp.new_zeros(2, n_labels + 1, dtype=torch.float64)
        cells, plane = _Cells.of(moving), disp[0, 0, 0].numel()
        for start, stop in _slabs(disp):
            target = fixed[start:stop].flatten()
            at, cell = cells.locate(disp, start, stop)
            inner = cells.common.take(cell)
            border = (inner > n_labels).nonzero()[:, 0]
            inner[border] = 0
            squares += torch.bincount(inner, minlength=n_labels + 1)
            overlap += torch.bincount(inner * (inner == target), minlength=n_labels + 1)
            corners, upper = cells.corners(at, cell, border)
            weights, target = _weights(upper), target[border]
            squares += _sums(corners, weights * _same_class(corners, weights), n_labels)
            overlap += _sums(target, (weights * (corners == target)).sum(dim=0), n_labels)
            if ctx.needs_input_grad[2]:
                ctx.borders.append((border + start * plane, corners, upper, target))
        return overlap[1:], squares[1:]

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, of_overlap: Tensor, of_squares: Tensor
    ) -> tuple[None, None, Tensor, None]:
        dtype = _precision(ctx.dtype)
        gradient = torch.zeros(ctx.shape, dtype=dtype, device=of_overlap.device)
        of_overlap, of_squares = (
            F.pad(sums, (1, 0)).to(dtype) for sums in (of_overlap, of_squares)
        )
        for border, corners, upper, target in ctx.borders:
            slopes = of_squares.index_select(0, corners.flatten().int()).view(corners.shape)
            slopes.mul_(_same_class(corners, _weights(upper))).mul_(2)
            slopes += (corners == target) * of_overlap.index_select(0, target.int())
            along = _derivatives(slopes.view(2, 2, 2, -1), upper)
            gradient.view(3, -1).index_copy_(1, border, along)
        return None, None, gradient.to(ctx.dtype), None


@dataclass(frozen=True)
class _Cells:
    """The cubes between eight neighbouring voxels of the moving scan.

    Attributes:
        classes: Class of every voxel, with a margin of class 0.
        common: Class that the eight voxels of each cube share, else 255.
    """

    classes: Integer[Tensor, "i j k"]
    common: Integer[Tensor, "cells_i cells_j cells_k"]

    @classmethod
    def of(cls, moving: Integer[Tensor, "mi mj mk"]) -> "_Cells":
        classes = F.pad(moving, [_MARGIN] * 6)
        common = classes
        for axis, size in enumerate(classes.shape):
            low, high = common.narrow(axis, 0, size - 1), common.narrow(axis, 1, size - 1)
            common = torch.where(low == high, low, torch.iinfo(low.dtype).max)
        return cls(classes, common)

    def locate(
        self, disp: Field, start: int, stop: int
    ) -> tuple[Float[Tensor, "3 n"], Integer[Tensor, " n"]]:
        """Return where planes of the field point, in padded voxels, and the cubes there.

        Positions outside are moved to the outer cubes, and so are those that are no numbers.
        """
        at = disp[0, :, start:stop].to(_precision(disp.dtype), copy=True)
        cell = torch.zeros_like(at[0], dtype=torch.long)
        for axis, cells in enumerate(self.common.shape):
            line = [-1 if a == axis else 1 for a in range(3)]
            steps = torch.arange(disp.shape[2 + axis], dtype=at.dtype, device=at.device) + _MARGIN
            at[axis] += (steps[start:stop] if axis == 0 else steps).view(line)
            at[axis] = at[axis].nan_to_num(nan=0.0).clamp(0, cells)
            cell.mul_(cells).add_(at[axis].long().clamp(max=cells - 1))
        return at.flatten(1), cell.flatten()

    def corners(
        self, at: Float[Tensor, "3 n"], cell: Integer[Tensor, " n"], which: Integer[Tensor, " m"]
    ) -> tuple[Integer[Tensor, "8 m"], Float[Tensor, "3 m"]]:
        """Return the classes around some of the positions, and how far above the first they lie."""
        _, cells_j, cells_k = self.common.shape
        rest, low_k = _divide(cell[which], cells_k)
        low_i, low_j = _divide(rest, cells_j)
        upper = torch.stack(
            [at[axis].take(which) - low for axis, low in enumerate((low_i, low_j, low_k))]
        )
        size_j, size_k = cells_j + 1, cells_k + 1
        first = (low_i * size_j + low_j) * size_k + low_k
        steps = [(i * size_j + j) * size_k + k for i, j, k in product((0, 1), repeat=3)]
        return torch.stack([self.classes.take(first + step) for step in steps]), upper


def _divide(numbers: Integer[Tensor, " n"], by: int) -> tuple[Tensor, Tensor]:
    """Return quotient and remainder of integers that are not negative."""
    quotient = numbers // by
    return quotient, numbers - quotient * by


def _weights(upper: Float[Tensor, "3 n"]) -> Corners:
    """Return the linear weights of the eight voxels around each position."""
    i, j, k = torch.stack([1 - upper, upper], dim=1).unbind()
    return ((i[:, None] * j)[:, :, None] * k).view(8, -1)


def _classes(labels: Integer[Tensor, "i j k"], values: Sequence[int]) -> Integer[Tensor, "i j k"]:
    """Return the number of every voxel's label in ``values``, counted from 1; 0 for others."""
    low, high = (int(extreme) for extreme in torch.aminmax(labels))
    dtype = torch.uint8 if len(values) < torch.iinfo(torch.uint8).max else torch.int32
    table = torch.zeros(high - low + 1, dtype=dtype, device=labels.device)
    for n, value in enumerate(values, start=1):
        if low <= value <= high:
            table[value - low] = n
    return torch.stack([table[plane.long() - low] for plane in labels])


def _slabs(disp: Field) -> Iterator[tuple[int, int]]:
    n_planes, plane = disp.shape[2], disp[0, 0, 0].numel()
    size = max(1, _SLAB_VOXELS // plane) if disp.device.type == "cpu" else n_planes
    for start in range(0, n_planes, size):
        yield start, min(start + size, n_planes)


def _same_class(corners: Integer[Tensor, "8 n"], weights: Corners) -> Corners:
    """Return ``W_l`` of the label of every corner: the weights of the corners that share it."""
    same = weights.clone()
    for a in range(8):
        for b in range(a):
            equal = (corners[a] == corners[b]).to(weights.dtype)
            same[a].addcmul_(weights[b], equal)
            same[b].addcmul_(weights[a], equal)
    return same


def _sums(classes: Tensor, values: Tensor, n_labels: int) -> Float[Tensor, " classes"]:
    weights = values.flatten().double()
    return torch.bincount(classes.flatten(), weights, minlength=n_labels + 1).double()


def _derivatives(
    values: Float[Tensor, "2 2 2 n"], upper: Float[Tensor, "3 n"]
) -> Float[Tensor, "3 n"]:
    """Return the derivatives along each axis of the linear interpolation of ``values``."""
    i, j, k = upper.unbind()
    over_k = torch.lerp(values[:, :, 0], values[:, :, 1], k)
    along_i, along_j = over_k[1] - over_k[0], over_k[:, 1] - over_k[:, 0]
    along_k = values[:, :, 1] - values[:, :, 0]
    along_k = torch.lerp(along_k[:, 0], along_k[:, 1], j)
    pairs = ((along_i, j), (along_j, i), (along_k, i))
    return torch.stack([torch.lerp(pair[0], pair[1], at) for pair, at in pairs])


def _precision(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)
