"""The working grid of two scans: the fixed scan's, resized where it is too large to optimise on."""

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
    """Return two scans on their working grid, the moving one moved by the initial affine map.

    Args:
        fixed: Intensities in [0, 1], ``(1, 1, i, j, k)``.
        moving: Likewise, on a grid of its own.
        initial: Map from fixed to moving voxels, as the headers give it.
        spacing_mm: Voxel size of the fixed scan.
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
    """Return ``batch`` on each of the working grids of a method: ``half``, or ``full`` as it is."""
    half = half_shape(batch["fixed"].shape[2:], batch["spacing_mm"][0].tolist())
    halved = resize_batch(batch, half, masks="nearest") if "half" in grids else batch
    return [halved if grid == "half" else batch for grid in grids]


def reduced_shape(shape: Shape3, max_voxels: int) -> Shape3:
    """Return ``shape``, scaled down alike along all axes until it has at most ``max_voxels``."""
    factor = max(1.0, (float(np.prod(shape)) / max_voxels) ** (1 / 3))
    i, j, k = (max(2, round(size / factor)) for size in shape)
    return (i, j, k)


def half_shape(shape: Sequence[int], spacing_mm: Sequence[float]) -> Shape3:
    """Return half of each size; an axis of thick slices, twice as long as wide, keeps its size."""
    thick = [mm >= 2 * min(spacing_mm) for mm in spacing_mm]
    i, j, k = (n if keep else (n + 1) // 2 for n, keep in zip(shape, thick, strict=True))
    return (i, j, k)
