"""Fold removal: smooth a displacement field where it folds, and only there."""

import warnings
from collections.abc import Sequence
from itertools import product

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from l2reg.geometry.filters import box_mean
from l2reg.geometry.jacobian import determinant
from l2reg.geometry.resize import apply_separable
from l2reg.shapes import Field, Image, Mask
from l2reg.wording import quantity

_MAX_ITERATIONS = 600
_LOCAL_ITERATIONS = 100  # with the nearest neighbours alone, which suffices for most fields
_DOUBLE_AFTER = 50  # iterations after which the smoothing then reaches twice as far
_MEAN_FRACTION = 0.3  # weight of the local mean; less keeps the field sharper, but takes longer
_SLAB_VALUES = 2**17  # of a field on the CPU: a slab and its derivatives stay in the cache
_CELLS_AT_ONCE = 2**16  # that are looked at again: their corners stay in the cache
_TOLERANCE = 1e-4  # by which determinants exceed the smallest one, more than they are rounded

Cells = Float[Tensor, "b cells_i cells_j cells_k"]
LowCells = Bool[Tensor, "b cells_i cells_j cells_k"]
Index = Int[Tensor, " cells"]


def remove_folds(disp: Field, *, min_determinant: float) -> Field:
    """Return ``disp``, smoothed around cells whose determinant is ``min_determinant`` or less.

    A field that is interpolated linearly between voxels has its extreme determinants at the corners
    of the cells between them. Where one of these is too small, the field is moved towards its mean
    over three voxels. Where 100 repetitions do not suffice, because the field is as steep around,
    the mean is taken over twice as many voxels along each axis every 50 repetitions, and more
    voxels are moved. A field without such a cell stays as it is, and so do voxels far from such
    cells.

    Args:
        disp: Field in voxels, on a grid of two or more voxels along each axis.
        min_determinant: Determinant that all cells must exceed, below 1; 0 only removes folds.

    Warns:
        RuntimeWarning: If 600 iterations do not suffice, as for values beyond the precision of
            their type. A translation, the mean of the field, is returned then.
    """
    exact = disp.double()
    low = min_corner_determinant(exact) <= min_determinant
    if not bool(low.any()):
        return disp.clone()
    exact, reach, enough = exact.clone(), 1, min_determinant + _TOLERANCE
    for n in range(_MAX_ITERATIONS):
        if n >= _LOCAL_ITERATIONS and n % _DOUBLE_AFTER == 0:
            reach = min(2 * reach, max(disp.shape[2:]))
        i, j, k = _bounding_box(low, margin=3 * reach)
        part = exact[:, :, i, j, k]  # a view; the rest of the field has no small determinants
        cells = (slice(None), *(slice(axis.start, axis.stop - 1) for axis in (i, j, k)))
        nearness = _nearness(low[cells], reach)
        part.lerp_(_mean_around(part, reach), _MEAN_FRACTION * nearness.double())
        part.copy_(part.to(disp.dtype))  # the determinants are those of the returned field
        low.zero_()  # all low cells are among those that are moved here
        moved = F.max_pool3d(nearness, 2, stride=1)[:, 0].nonzero()
        for some in torch.split(moved, _CELLS_AT_ONCE):
            at = some.unbind(dim=1)
            low[cells][at] = min_corner_determinant(_cut_out(part, at)).flatten() <= enough
        if not bool(low.any()):
            break
    else:
        warnings.warn(
            f"folds are left after {_MAX_ITERATIONS} iterations of smoothing, in "
            f"{quantity(int(low.sum()), 'cell')}; the field is replaced by its mean, a translation",
            RuntimeWarning,
            stacklevel=2,
        )
        folds = low.flatten(1).any(dim=1)
        exact[folds] = disp[folds].double().mean(dim=(2, 3, 4), keepdim=True)
    return exact.to(disp.dtype)


def _bounding_box(low: LowCells, margin: int) -> tuple[slice, slice, slice]:
    """Return the voxels of the bounding box, with a margin, of all cells that ``low`` marks."""
    at = low.any(dim=0).nonzero()
    first, last = at.amin(dim=0).tolist(), at.amax(dim=0).tolist()
    i, j, k = (
        slice(max(a - margin, 0), min(b + 2 + margin, n + 1))
        for a, b, n in zip(first, last, low.shape[1:], strict=True)
    )
    return (i, j, k)


def _cut_out(disp: Field, cells: Sequence[Index]) -> Float[Tensor, "cells 3 2 2 2"]:
    """Return the displacements of the corners of some cells, given by pair, i, j and k."""
    pair, *first = cells
    corners = torch.arange(2, device=disp.device)
    i, j, k = (
        at + corners.view([2 if axis == a else 1 for a in range(3)] + [1])
        for axis, at in enumerate(first)
    )
    return disp.movedim(1, 0)[:, pair, i, j, k].movedim(-1, 0)


def _nearness(low: LowCells, reach: int) -> Mask:
    """Return 1 within ``reach - 1`` voxels of the cells that ``low`` marks, falling to 0 beyond."""
    corners = F.max_pool3d(F.pad(low[:, None].float(), [1] * 6), 2, stride=1)
    near = (_mean_around(corners, reach - 1) > 0).float()
    return torch.maximum(near, _mean_around(near, reach))


def _mean_around(volume: Image, radius: int) -> Image:
    """Return the mean over the cube around every voxel, cut off at the border.

    Voxels beyond the border are not made up, and a cube may be larger than the volume.
    """
    if 2 * radius < min(volume.shape[2:]):
        return box_mean(volume, 2 * radius + 1)
    matrices = []
    for size in volume.shape[2:]:
        voxels = torch.arange(size, device=volume.device)
        band = ((voxels[:, None] - voxels).abs() <= radius).to(volume.dtype)
        matrices.append(band / band.sum(dim=1, keepdim=True))
    return apply_separable(volume, matrices)


def min_corner_determinant(disp: Field) -> Cells:
    """Return the smallest determinant at the eight corners of every cell between voxels.

    At a corner the derivatives along the axes are the differences along the three edges that meet
    there.
    """
    n_planes = disp.shape[2]
    if disp.device.type == "cpu":
        n_planes = max(1, _SLAB_VALUES // disp[:, :, 0].numel())
    slabs = [
        _min_determinant(disp[:, :, start : start + n_planes + 1])
        for start in range(0, disp.shape[2] - 1, n_planes)
    ]
    return torch.cat(slabs, dim=1)


def _min_determinant(disp: Field) -> Cells:
    along_i, along_j, along_k = (disp.diff(dim=2 + axis) for axis in range(3))
    i, j, k = (size - 1 for size in disp.shape[2:])
    smallest = disp.new_full((len(disp), i, j, k), torch.inf)
    for a, b, c in product((0, 1), repeat=3):
        di = along_i[:, :, :, b : b + j, c : c + k]
        dj = along_j[:, :, a : a + i, :, c : c + k]
        dk = along_k[:, :, a : a + i, b : b + j, :]
        smallest = torch.minimum(smallest, determinant(di, dj, dk))
    return smallest
