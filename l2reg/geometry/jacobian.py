"""Local volume change of a deformation."""

import torch
from jaxtyping import Float
from torch import Tensor

from l2reg.shapes import Field


def jacobian_determinant(disp: Field) -> Float[Tensor, "b inner_i inner_j inner_k"]:
    """Return the determinant of the Jacobian of ``p -> p + disp(p)`` inside the grid.

    Central differences, so the outermost voxel on every side is left out: the result has two
    voxels fewer along each axis. 1 everywhere for a translation, 1.331 for ``disp = 0.1 * p``,
    zero or less where the deformation folds.
    """
    inner = slice(1, -1)
    rows = [
        (disp[:, :, 2:, inner, inner] - disp[:, :, :-2, inner, inner]) / 2,
        (disp[:, :, inner, 2:, inner] - disp[:, :, inner, :-2, inner]) / 2,
        (disp[:, :, inner, inner, 2:] - disp[:, :, inner, inner, :-2]) / 2,
    ]
    # rows[a][:, c] is the change of component c along axis a
    (ii, ij, ik), (ji, jj, jk), (ki, kj, kk) = [list(row.unbind(dim=1)) for row in rows]
    ii, jj, kk = ii + 1, jj + 1, kk + 1
    return ii * (jj * kk - jk * kj) - ij * (ji * kk - jk * ki) + ik * (ji * kj - jj * ki)


def fold_fraction(disp: Field) -> Float[Tensor, " b"]:
    """Return the fraction of inner voxels whose determinant is zero or negative."""
    return (jacobian_determinant(disp) <= 0).to(torch.float32).flatten(1).mean(dim=1)
