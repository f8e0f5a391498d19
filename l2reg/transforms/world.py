"""World coordinates: voxel positions to millimetres, by the affine of a scan's header.

NIfTI headers describe RAS millimetres: the axes point right, anterior (front) and superior (up).
This is the only module that converts between voxels and millimetres of the world; modules for one
file format add the axes of that format.
"""

import numpy as np
from jaxtyping import Float, Shaped


def voxels_to_world(
    affine: Float[np.ndarray, "4 4"], voxels: Shaped[np.ndarray, "3 n"]
) -> Float[np.ndarray, "3 n"]:
    """Return the world coordinates of voxel positions, in mm.

    Args:
        affine: Map from voxels to mm: RAS as in a header, or another system of axes.
        voxels: Positions along i, j, k, one a column; they may lie between voxel centres or outside
            the scan.
    """
    world: np.ndarray = affine[:3, :3] @ voxels + affine[:3, 3:]
    return world


def voxel_map(
    fixed_affine: Float[np.ndarray, "4 4"], moving_affine: Float[np.ndarray, "4 4"]
) -> Float[np.ndarray, "4 4"]:
    """Return the map from fixed to moving voxels at the same position of the world.

    Args:
        fixed_affine: Map from voxels of the fixed scan to mm.
        moving_affine: Map from voxels of the moving scan to mm, in the same system of axes.
    """
    matrix: np.ndarray = np.linalg.inv(moving_affine) @ fixed_affine
    return matrix
