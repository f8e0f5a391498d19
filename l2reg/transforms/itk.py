"""ITK displacement fields, as ANTs and SimpleITK read them: LPS millimetres in a NIfTI file."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from l2reg.io.headers import Placement
from l2reg.io.volumes import write_volume
from l2reg.transforms.world import voxels_to_world

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # ITK's axes point left, posterior and superior


def write_warp(
    path: Path,
    disp: Float[np.ndarray, "3 i j k"],
    fixed: Placement,
    moving_affine: Float[np.ndarray, "4 4"],
) -> None:
    """Write a field as a displacement transform of ITK, from fixed to moving positions.

    ``antsApplyTransforms`` and SimpleITK's ``DisplacementFieldTransform`` read the file.

    Args:
        path: File to write, ``.nii.gz``.
        disp: Field in voxels: the voxel ``p`` of the fixed grid corresponds to the voxel
            ``p + disp(p)`` of the moving grid.
        fixed: Place of the fixed scan, which is also that of the file.
        moving_affine: Map from voxels of the moving scan to RAS mm, from its header.
    """
    voxels = np.indices(disp.shape[1:]).reshape(3, -1)
    fixed_points = voxels_to_world(RAS_TO_LPS @ fixed.affine, voxels)
    moving_points = voxels_to_world(RAS_TO_LPS @ moving_affine, voxels + disp.reshape(3, -1))
    vectors = (moving_points - fixed_points).T.reshape(*disp.shape[1:], 1, 3).astype(np.float32)
    write_volume(path, vectors, fixed, vectors=True)
