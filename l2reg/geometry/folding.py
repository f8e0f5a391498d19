"""Fold removal: smooth a displacement field where it folds, and only there."""

from itertools import product

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from l2reg.geometry.filters import smooth
from l2reg.geometry.jacobian import determinant
from l2reg.shapes import Field

_MAX_ITERATIONS = 100
_MEAN_FRACTION = 0.3  # weight of the local mean; less keeps the field sharper, but takes longer
_MARGIN = 3  # voxels around the folds that belong to the box of an iteration

Cells = Float[Tensor, "b cells_i cells_j cells_k"]


def remove_folds(disp: Field, *, min_determinant: float) -> Field:
    """Return ``disp``, smoothed around cells whose determinant is ``min_determinant`` or less.

    A field that is interpolated linearly between voxels has its extreme determinants at the corners
    of the cells between them. Where one of these is too small, the field is moved towards its mean
    over three voxels. This is repeated until all are large enough, 100 times at most.

    Args:
        disp: Field in voxels, on a grid of two or more voxels along each axis.
        min_determinant: Determinant that all cells must exceed, below 1; 0 only removes folds.
    """
    disp = disp.clone()
    part = disp  # a view; the rest of the field has no small determinants
    for _ in range(_MAX_ITERATIONS):
        low = min_corner_determinant(part) <= min_determinant
        if not bool(low.any()):
            break
        i, j, k = _bounding_box(low)
        part = part[:, :, i, j, k]
        cells = low[:, i.start : i.stop - 1, j.start : j.stop - 1, k.start : k.stop - 1]
        corners = F.max_pool3d(F.pad(cells[:, None].to(disp.dtype), [1] * 6), 2, stride=1)
        fraction = _MEAN_FRACTION * torch.maximum(corners, smooth(corners, passes=1))
        part.lerp_(smooth(part, passes=1), fraction)
    return disp


def _bounding_box(low: Bool[Tensor, "b cells_i cells_j cells_k"]) -> tuple[slice, slice, slice]:
    """Return the voxels of the bounding box, with a margin, of all cells that ``low`` marks."""
    at = low.any(dim=0).nonzero()
    first, last = at.amin(dim=0).tolist(), at.amax(dim=0).tolist()
    i, j, k = (
        slice(max(a - _MARGIN, 0), min(b + 2 + _MARGIN, n + 1))
        for a, b, n in zip(first, last, low.shape[1:], strict=True)
    )
    return (i, j, k)


def min_corner_determinant(disp: Field) -> Cells:
    """Return the smallest determinant at the eight corners of every cell between voxels.

    At a corner the derivatives along the axes are the differences along the three edges that meet
    there.
    """
    along_i, along_j, along_k = (disp.diff(dim=2 + axis) for axis in range(3))
    i, j, k = (size - 1 for size in disp.shape[2:])
    smallest = disp.new_full((len(disp), i, j, k), torch.inf)
    for a, b, c in product((0, 1), repeat=3):
        di = along_i[:, :, :, b : b + j, c : c + k]
        dj = along_j[:, :, a : a + i, :, c : c + k]
        dk = along_k[:, :, a : a + i, b : b + j, :]
        smallest = torch.minimum(smallest, determinant(di, dj, dk))
    return smallest
