from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np

from l2reg.registration.transform_scans import TransformScans
from l2reg.transforms.fsl import fnirt_transform, read_flirt, write_flirt, write_fnirt
from l2reg.transforms.image_grid import ImageGrid
from l2reg.transforms.vector_volumes import read_vectors
from l2reg.transforms.world_transform import AffineMap, DisplacementMap

Inside = Callable[[ImageGrid], np.ndarray]


def scaled_voxel(grid: ImageGrid, world: np.ndarray) -> np.ndarray:
    """Return a position as FSL measures it; its manual: x is flipped if the determinant is > 0."""
    voxel = nib.affines.apply_affine(np.linalg.inv(grid.place.affine), world)
    if np.linalg.det(grid.place.affine) > 0:
        voxel[0] = grid.shape[0] - 1 - voxel[0]
    scaled: np.ndarray = voxel * nib.affines.voxel_sizes(grid.place.affine)
    return scaled


def test_a_matrix_of_flirt_takes_moving_to_fixed_scaled_voxels(
    tmp_path: Path, oblique_scans: TransformScans, affine_map: AffineMap, points: Inside
) -> None:
    fixed, moving = oblique_scans.both("")
    write_flirt(tmp_path / "flirt.mat", affine_map.matrix, fixed, moving)
    flirt = np.loadtxt(tmp_path / "flirt.mat")
    again = read_flirt(tmp_path / "flirt.mat", fixed, moving)
    for point in points(fixed).T:
        moved = nib.affines.apply_affine(affine_map.matrix, point)
        in_fixed = nib.affines.apply_affine(flirt, scaled_voxel(moving, moved))
        np.testing.assert_allclose(in_fixed, scaled_voxel(fixed, point), atol=1e-6)
        np.testing.assert_allclose(again(point[:, None])[:, 0], moved, atol=1e-6)


def test_a_relative_warp_is_the_difference_of_scaled_voxels(
    tmp_path: Path, oblique_scans: TransformScans, smooth_field: DisplacementMap
) -> None:
    fixed, moving = oblique_scans.both("")
    write_fnirt(tmp_path / "warp.nii.gz", smooth_field, moving)
    image = nib.load(tmp_path / "warp.nii.gz")
    assert image.shape == (*fixed.shape, 3)
    assert int(image.header["intent_code"]) == 2006
    for voxel in [(0, 0, 0), (3, 11, 5), (13, 17, 15)]:
        world = nib.affines.apply_affine(fixed.place.affine, voxel)
        moved = world + smooth_field.disp_mm[(slice(None), *voxel)]
        expected = scaled_voxel(moving, moved) - scaled_voxel(fixed, world)
        np.testing.assert_allclose(image.dataobj[voxel], expected, atol=1e-4)
    (again,) = fnirt_transform(read_vectors(tmp_path / "warp.nii.gz"), moving).steps
    assert isinstance(again, DisplacementMap)
    np.testing.assert_allclose(again.disp_mm, smooth_field.disp_mm, atol=1e-4)
