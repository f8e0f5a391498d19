"""Half resolution: the samples from which the organisers' up-sampling restores a field best."""

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Float16, Float32, Float64
from scipy.ndimage import zoom
from torch import Tensor

from l2reg.geometry.resize import apply_separable
from l2reg.problems import InputError, Problem
from l2reg.shapes import Field, Shape3

HalfField = Float16[np.ndarray, "3 half_i half_j half_k"]


@lru_cache(maxsize=16)
def upsampling_matrix(size: int) -> Float64[np.ndarray, "full half"]:
    """Return the matrix of the official up-sampling of ``size`` samples along one axis.

    The up-sampling is ``scipy.ndimage.zoom(samples, 2, order=2)``: a quadratic spline,
    corner-aligned.
    """
    return np.stack([zoom(row, 2, order=2) for row in np.eye(size)], axis=1)


@lru_cache(maxsize=16)
def _pseudo_inverse(size: int) -> Float64[np.ndarray, "half full"]:
    matrix = upsampling_matrix(size)  # of full column rank
    inverse: np.ndarray = np.linalg.solve(matrix.T @ matrix, matrix.T)
    return inverse


def fit_half_resolution(full: Field) -> Float[Tensor, "b 3 half_i half_j half_k"]:
    """Return the half-resolution samples whose official up-sampling is closest to ``full``.

    The fit is a least-squares fit over all voxels. The up-sampling works axis by axis, so its
    pseudo-inverse is one small matrix per axis.

    Args:
        full: Field on the full grid, of even sizes, in voxels of this grid.

    Returns:
        The samples, in voxels of the full grid.
    """
    inverses = [torch.from_numpy(_pseudo_inverse(size // 2)).to(full) for size in full.shape[2:]]
    return apply_separable(full, inverses)


def upsample(field: HalfField) -> Float32[np.ndarray, "3 i j k"]:
    """Return a submitted field on the full grid, up-sampled with the organisers' method.

    The method is ``scipy.ndimage.zoom(component, 2, order=2)`` in float32: a quadratic spline,
    corner-aligned, values not rescaled. It is linear and separable, so it is computed as three
    matrix products. These are large ones, as the threads of BLAS slow each other down on many small
    products.
    """
    along_i, along_j, along_k = (upsampling_matrix(size) for size in field.shape[1:])
    full = np.empty((3, *(2 * size for size in field.shape[1:])), dtype=np.float32)
    for component, half in zip(full, field, strict=True):
        i, j, k = half.shape
        rows = (half.astype(np.float64).reshape(-1, k) @ along_k.T).reshape(i, j, -1)
        planes = along_j @ rows.transpose(1, 0, 2).reshape(j, -1)
        planes = planes.reshape(2 * j, i, -1).transpose(1, 0, 2)
        component[:] = (along_i @ planes.reshape(i, -1)).reshape(component.shape)
    return full


def half_shape(shape: Shape3) -> Shape3:
    """Return the shape of the half-resolution grid for scans of ``shape``.

    Raises:
        InputError: If a size is odd, as the official up-sampling by two cannot restore it.
    """
    if any(size % 2 for size in shape):
        raise InputError(
            Problem(
                where=f"grid {shape}",
                what="cannot be submitted at half resolution",
                expected="even sizes",
                found=f"{shape}",
                remedy="resample the scans of the task to even sizes",
            )
        )
    i, j, k = shape
    return (i // 2, j // 2, k // 2)
