"""The samples of half resolution from which the organisers' up-sampling restores a field best."""

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Float64
from scipy.ndimage import zoom
from torch import Tensor

from l2reg.geometry.resize import along_axes
from l2reg.shapes import Field


@lru_cache(maxsize=16)
def zoom_matrix(size: int) -> Float64[np.ndarray, "full half"]:
    """Return the official up-sampling of ``size`` samples along one axis, as a matrix.

    It is ``scipy.ndimage.zoom(samples, 2, order=2)``: a quadratic spline, corner-aligned.
    """
    return np.stack([zoom(row, 2, order=2) for row in np.eye(size)], axis=1)


@lru_cache(maxsize=16)
def _pseudo_inverse(size: int) -> Float64[np.ndarray, "half full"]:
    matrix = zoom_matrix(size)
    inverse: np.ndarray = np.linalg.solve(matrix.T @ matrix, matrix.T)  # of full column rank
    return inverse


def best_samples(full: Field) -> Float[Tensor, "b 3 half_i half_j half_k"]:
    """Return the half-resolution samples whose official up-sampling is closest to ``full``.

    Closest in least squares over all voxels. The up-sampling works axis by axis, so its
    pseudo-inverse is one small matrix an axis.

    Args:
        full: In voxels of its grid, of even sizes; so are the samples.
    """
    inverses = [torch.from_numpy(_pseudo_inverse(size // 2)).to(full) for size in full.shape[2:]]
    return along_axes(full, inverses)
