"""Working grid of two scans: that of the fixed scan, at a lower resolution if it is too large."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from l2reg.batch import Batch, resize_batch
from l2reg.geometry.affine import affine_field
from l2reg.geometry.resize import resize_image, voxel_ratio
from l2reg.geometry.warp import warp
from l2reg.shapes import Affine, Shape3, Spacing, WorkingGrid


def working_batch(
    fixed: Tensor, moving: Tensor, initial: Affine, spacing_mm: Spacing, max_voxels: int
) -> Batch:
    """Return two scans on their working grid, the moving scan warped by the initial affine map.

    Args:
        fixed: The fixed scan, intensities in [0, 1], ``(1, 1, i, j, k)``.
        moving: The moving scan, intensities in [0, 1], on a grid of its own.
        initial: Map from fixed to moving voxels that the headers describe.
        spacing_mm: Spacing of the fixed scan.
        max_voxels: Largest number of voxels of the working grid.
    """
    i, j, k = fixed.shape[2:]
    aligned = warp(moving, affine_field(initial, (i, j, k)), padding="zeros")
    shape = reduced_shape((i, j, k), max_voxels)
    ones = torch.ones(1, 1, *shape)
    spacing = torch.tensor([spacing_mm], dtype=torch.float32)
    return {
        "fixed": resize_image(fixed, shape),
        "moving": resize_image(aligned, shape),
        "fixed_mask": ones,
        "moving_mask": ones,
        "spacing_mm": spacing * spacing.new_tensor(voxel_ratio(shape, (i, j, k))),
    }


def on_grids(batch: Batch, grids: Sequence[WorkingGrid]) -> list[Batch]:
    """Return a batch on each of the working grids of a method: ``half``, or ``full`` unchanged."""
    half = half_shape(batch["fixed"].shape[2:], batch["spacing_mm"][0].tolist())
    halved = resize_batch(batch, half, masks="nearest") if "half" in grids else batch
    return [halved if grid == "half" else batch for grid in grids]


def reduced_shape(shape: Shape3, max_voxels: int) -> Shape3:
    """Return a shape, if larger scaled down to about ``max_voxels`` voxels, all axes alike."""
    factor = max(1.0, (float(np.prod(shape)) / max_voxels) ** (1 / 3))
    i, j, k = (max(2, round(size / factor)) for size in shape)
    return (i, j, k)


def half_shape(shape: Sequence[int], spacing_mm: Sequence[float]) -> Shape3:
    """Return half of each size, but the full size of an axis of thick slices.

    Slices are thick if their spacing is at least twice the smallest spacing.
    """
    thick = [mm >= 2 * min(spacing_mm) for mm in spacing_mm]
    i, j, k = (n if keep else (n + 1) // 2 for n, keep in zip(shape, thick, strict=True))
    return (i, j, k)
