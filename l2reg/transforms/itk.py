"""Displacement fields as ITK and ANTs read them: millimetres, left and back positive."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from l2reg.io.volumes import write_volume

_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def write_warp(
    path: Path,
    disp: Float[np.ndarray, "3 i j k"],
    fixed_affine: Float[np.ndarray, "4 4"],
    moving_affine: Float[np.ndarray, "4 4"],
) -> None:
    """Write a field as ``antsApplyTransforms`` and SimpleITK's displacement transforms read it.

    Args:
        path: A ``.nii.gz`` file.
        disp: Voxels of the fixed grid; the voxel ``p + disp(p)`` is one of the moving grid.
        fixed_affine: Voxels of the fixed scan to RAS millimetres, from its header.
        moving_affine: That of the moving scan.
    """
    voxels = np.indices(disp.shape[1:]).reshape(3, -1)
    here = _world(fixed_affine, voxels)
    there = _world(moving_affine, voxels + disp.reshape(3, -1))
    vectors = (there - here).T.reshape(*disp.shape[1:], 1, 3).astype(np.float32)
    write_volume(path, vectors, fixed_affine, vectors=True)


def _world(affine: np.ndarray, voxels: np.ndarray) -> np.ndarray:
    """Return voxel positions in LPS millimetres."""
    to_lps = _RAS_TO_LPS @ affine
    world: np.ndarray = to_lps[:3, :3] @ voxels + to_lps[:3, 3:]
    return world
