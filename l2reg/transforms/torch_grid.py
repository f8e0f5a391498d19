"""Sampling grids of PyTorch, as ``torch.nn.functional.grid_sample`` takes them, in ``.npy``."""

from pathlib import Path

import numpy as np
import torch

from l2reg.geometry.warp import from_torch_grid, to_torch_grid
from l2reg.io.files import atomic_write
from l2reg.problems import InputError, Problem
from l2reg.transforms.image_grid import ImageGrid
from l2reg.transforms.world import voxels_to_world
from l2reg.transforms.world_transform import DisplacementMap, WorldTransform


def read_grid_sample(path: Path, fixed: ImageGrid, moving: ImageGrid) -> WorldTransform:
    """Read a grid with corners aligned (``align_corners=True``).

    Args:
        path: File of an array of shape ``(1, i, j, k, 3)``: for every voxel of the fixed grid the
            position in the moving grid, from -1 to 1, along the last axis first.
        fixed: Grid of the fixed scan.
        moving: Grid of the moving scan.

    Raises:
        InputError: If the file is unreadable, or its shape is not that of the fixed grid.
    """
    expected = (1, *fixed.shape, 3)
    try:
        grid = np.load(path, allow_pickle=False)
        found = f"{grid.dtype}, shape {grid.shape}"
        sound = grid.shape == expected and grid.dtype.kind == "f" and bool(np.isfinite(grid).all())
    except (ValueError, EOFError, AttributeError) as error:
        found, sound = str(error), False
    if not sound:
        raise InputError(
            Problem(
                where=str(path),
                what="is no sampling grid of PyTorch for the fixed scan",
                expected=f"a .npy file of finite floats of shape {expected}",
                found=found,
                remedy="np.save('grid.npy', grid.numpy()), and name the fixed scan by --reference",
            )
        )
    voxels = from_torch_grid(torch.from_numpy(grid.astype(np.float64)), moving.shape)[0].numpy()
    fixed_points = fixed.points()
    disp_mm = voxels_to_world(moving.place.affine, voxels.reshape(3, -1)) - fixed_points
    field = DisplacementMap(disp_mm.reshape(3, *fixed.shape), fixed.place)
    return WorldTransform((field,))


def write_grid_sample(path: Path, field: DisplacementMap, moving: ImageGrid) -> None:
    """Write a field as a grid of shape ``(1, i, j, k, 3)``, float32, for ``align_corners=True``.

    Args:
        path: File to write, ``.npy``.
        field: The field on the grid of the fixed scan.
        moving: Grid of the moving scan.
    """
    positions = field.grid.points() + field.disp_mm.reshape(3, -1)
    voxels = voxels_to_world(np.linalg.inv(moving.place.affine), positions)
    coords = torch.from_numpy(voxels.reshape(1, 3, *field.grid.shape))
    grid = to_torch_grid(coords, moving.shape).numpy().astype(np.float32)
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, grid)
