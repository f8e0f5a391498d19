"""Random motion of phantoms: smooth displacement fields without folds."""

import numpy as np
import torch
from jaxtyping import Float32
from scipy.interpolate import make_interp_spline

from l2reg.geometry.jacobian import jacobian_determinant
from l2reg.shapes import Shape3, Spacing

FieldArray = Float32[np.ndarray, "3 i j k"]

MIN_DETERMINANT = 0.3  # of the Jacobian of a true field


def random_field(
    rng: np.random.Generator, shape: Shape3, spacing_mm: Spacing, *, size_mm: float, grain_mm: float
) -> FieldArray:
    """Return a random smooth displacement field in mm, a cubic spline.

    Args:
        rng: Random numbers of the field.
        shape: Grid of the field.
        spacing_mm: Voxel size of this grid.
        size_mm: Standard deviation of the displacement at the control points.
        grain_mm: Distance between the control points of the spline.
    """
    knots = [max(4, round(n * mm / grain_mm) + 1) for n, mm in zip(shape, spacing_mm, strict=True)]
    control = rng.normal(0, size_mm, (3, *knots))
    i, j, k = (_cubic(n, m) for n, m in zip(shape, knots, strict=True))
    field = np.einsum("xi,yj,zk,cijk->cxyz", i, j, k, control, optimize=True)
    single: FieldArray = field.astype(np.float32)
    return single


def _cubic(n: int, knots: int) -> np.ndarray:
    """Return the weights (n, knots) of a cubic spline through evenly spaced knots."""
    positions = np.linspace(0, knots - 1, n)
    weights: np.ndarray = make_interp_spline(
        np.arange(knots), np.eye(knots), k=3, bc_type="natural"
    )(positions)
    return weights


def without_folds(field_mm: FieldArray, spacing_mm: Spacing) -> FieldArray:
    """Return a field scaled down until its Jacobian determinant is ``MIN_DETERMINANT`` or more."""
    scale = np.float32(1 / np.array(spacing_mm)).reshape(3, 1, 1, 1)
    for _ in range(50):
        voxels = torch.from_numpy(field_mm * scale)[None]
        if jacobian_determinant(voxels).min() >= MIN_DETERMINANT:
            return field_mm
        field_mm = field_mm * np.float32(0.9)
    raise AssertionError("a field scaled by 0.9^50 still folds")
