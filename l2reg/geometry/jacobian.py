"""Jacobian determinant: the local volume change of a deformation."""

from jaxtyping import Float
from torch import Tensor

from l2reg.shapes import Field

Cells = Float[Tensor, "b 3 cells_i cells_j cells_k"]


def jacobian_determinant(disp: Field) -> Float[Tensor, "b inner_i inner_j inner_k"]:
    """Return the determinant of the Jacobian of ``p -> p + disp(p)`` inside the grid.

    Derivatives are central differences. The outermost voxel on every side is therefore left out,
    and the result has two voxels fewer along each axis. It is 1 everywhere for a translation, 1.331
    for ``disp = 0.1 * p``, and zero or less where the deformation folds.
    """
    inner = slice(1, -1)
    return determinant(
        (disp[:, :, 2:, inner, inner] - disp[:, :, :-2, inner, inner]) / 2,
        (disp[:, :, inner, 2:, inner] - disp[:, :, inner, :-2, inner]) / 2,
        (disp[:, :, inner, inner, 2:] - disp[:, :, inner, inner, :-2]) / 2,
    )


def edge_differences(field: Field) -> tuple[Cells, Cells, Cells]:
    """Return the forward differences along each axis, one vector for every cell between voxels."""
    first = field[:, :, :-1, :-1, :-1]
    return (
        field[:, :, 1:, :-1, :-1] - first,
        field[:, :, :-1, 1:, :-1] - first,
        field[:, :, :-1, :-1, 1:] - first,
    )


def determinant(di: Field, dj: Field, dk: Field) -> Float[Tensor, "b i j k"]:
    """Return the determinant of the Jacobian from the derivatives of a displacement field.

    Args:
        di: Derivatives of the three components along axis i, in voxels per voxel.
        dj: Derivatives of the three components along axis j.
        dk: Derivatives of the three components along axis k.
    """
    ii, jj, kk = di[:, 0] + 1, dj[:, 1] + 1, dk[:, 2] + 1
    by_i = ii * (jj * kk - dk[:, 1] * dj[:, 2])
    by_j = dj[:, 0] * (di[:, 1] * kk - dk[:, 1] * di[:, 2])
    by_k = dk[:, 0] * (di[:, 1] * dj[:, 2] - jj * di[:, 2])
    return by_i - by_j + by_k
