"""FSL's transforms: FLIRT matrices and relative warps of FNIRT, in FSL's scaled voxels.

FSL measures positions in voxels times voxel size, from the first voxel; if the header is
right-handed (neurological), the first axis counts from its other end.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float64

from l2reg.io.volumes import Intent, write_volume
from l2reg.transforms.image_grid import ImageGrid
from l2reg.transforms.matrices import read_matrix, write_matrix
from l2reg.transforms.vector_volumes import VectorVolume
from l2reg.transforms.world import voxels_to_world
from l2reg.transforms.world_transform import AffineMap, DisplacementMap, WorldTransform

RELATIVE_WARP = Intent(2006)  # FSL_FNIRT_DISPLACEMENT_FIELD


def fsl_to_world(grid: ImageGrid) -> Float64[np.ndarray, "4 4"]:
    """Return the map from FSL's scaled voxels of a scan to RAS mm."""
    affine = grid.place.affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    scaled = np.diag([*spacing, 1.0])  # from voxels
    if np.linalg.det(affine[:3, :3]) > 0:
        scaled[0, 0] = -spacing[0]
        scaled[0, 3] = (grid.shape[0] - 1) * spacing[0]
    matrix: np.ndarray = affine @ np.linalg.inv(scaled)
    return matrix


def read_flirt(path: Path, fixed: ImageGrid, moving: ImageGrid) -> WorldTransform:
    """Read a matrix of FLIRT, which maps positions of ``-in`` (moving) to ``-ref`` (fixed).

    Raises:
        InputError: If the file is no affine matrix.
    """
    to_moving = np.linalg.inv(read_matrix(path))
    matrix = fsl_to_world(moving) @ to_moving @ np.linalg.inv(fsl_to_world(fixed))
    return WorldTransform((AffineMap(matrix),))


def write_flirt(
    path: Path, matrix: Float64[np.ndarray, "4 4"], fixed: ImageGrid, moving: ImageGrid
) -> None:
    """Write an affine map from fixed to moving RAS mm as a matrix of FLIRT."""
    to_moving = np.linalg.inv(fsl_to_world(moving)) @ matrix @ fsl_to_world(fixed)
    write_matrix(path, np.linalg.inv(to_moving))


def fnirt_transform(volume: VectorVolume, moving: ImageGrid) -> WorldTransform:
    """Return the transform that a relative warp of FNIRT describes."""
    fixed_points = volume.grid.points()
    to_fsl = np.linalg.inv(fsl_to_world(volume.grid))
    scaled = voxels_to_world(to_fsl, fixed_points) + volume.vectors.reshape(3, -1)
    disp_mm = voxels_to_world(fsl_to_world(moving), scaled) - fixed_points
    field = DisplacementMap(disp_mm.reshape(volume.vectors.shape), volume.place)
    return WorldTransform((field,))


def write_fnirt(path: Path, field: DisplacementMap, moving: ImageGrid) -> None:
    """Write a field as a relative warp, which ``applywarp --rel`` reads.

    Args:
        path: File to write, ``.nii.gz``.
        field: The field on the grid of the fixed scan.
        moving: Grid of the moving scan.
    """
    fixed_points = field.grid.points()
    moving_points = fixed_points + field.disp_mm.reshape(3, -1)
    vectors = voxels_to_world(np.linalg.inv(fsl_to_world(moving)), moving_points)
    vectors -= voxels_to_world(np.linalg.inv(fsl_to_world(field.grid)), fixed_points)
    array = np.moveaxis(vectors.reshape(field.disp_mm.shape), 0, 3).astype(np.float32)
    write_volume(path, array, field.place, intent=RELATIVE_WARP)
