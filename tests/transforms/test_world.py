from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from l2reg.io.volumes import read_affine
from l2reg.transforms.world import voxel_map, voxels_to_world

SHAPE = (18, 20, 22)


def oblique_image(left_handed: bool) -> SimpleITK.Image:
    """A scan whose header rotates, scales and shifts; no two axes alike."""
    about_z = np.array([[np.cos(0.3), -np.sin(0.3), 0], [np.sin(0.3), np.cos(0.3), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(0.2), np.sin(0.2)], [0, -np.sin(0.2), np.cos(0.2)]])
    direction = about_z @ about_x @ np.diag([-1.0 if left_handed else 1.0, 1.0, 1.0])
    image = SimpleITK.Image(SHAPE, SimpleITK.sitkFloat32)
    image.SetSpacing((1.5, 1.0, 2.0))
    image.SetOrigin((5.0, -7.0, 3.0))
    image.SetDirection(direction.ravel().tolist())
    return image


@pytest.mark.parametrize("left_handed", [True, False])
def test_voxels_lie_where_simpleitk_puts_them(
    tmp_path: Path, left_handed: bool, random: np.random.Generator
) -> None:
    image = oblique_image(left_handed)
    path = tmp_path / "scan.nii.gz"
    SimpleITK.WriteImage(image, str(path))
    voxels = random.uniform(-2, 24, (3, 50))  # between voxel centres and outside the scan too
    lps = [image.TransformContinuousIndexToPhysicalPoint(voxel.tolist()) for voxel in voxels.T]
    ras = np.array(lps).T * np.array([[-1.0], [-1.0], [1.0]])
    np.testing.assert_allclose(voxels_to_world(read_affine(path), voxels), ras, atol=1e-4)


def test_any_affine_is_applied_as_nibabel_applies_it(random: np.random.Generator) -> None:
    affine = np.vstack([random.normal(size=(3, 4)), [0, 0, 0, 1]])
    voxels = np.indices(SHAPE).reshape(3, -1)
    expected = nib.affines.apply_affine(affine, voxels.T).T
    np.testing.assert_allclose(voxels_to_world(affine, voxels), expected, atol=1e-12)


def test_the_map_between_two_scans_keeps_positions_of_the_world(
    tmp_path: Path, random: np.random.Generator
) -> None:
    """SimpleITK takes a voxel of the fixed scan to the world and from there into the moving one."""
    fixed, moving = oblique_image(left_handed=False), oblique_image(left_handed=True)
    moving.SetSpacing((0.8, 2.2, 1.1))
    affines = []
    for name, image in (("fixed", fixed), ("moving", moving)):
        SimpleITK.WriteImage(image, str(tmp_path / f"{name}.nii.gz"))
        affines.append(read_affine(tmp_path / f"{name}.nii.gz"))
    matrix = voxel_map(*affines)
    for voxel in random.uniform(-2, 24, (20, 3)):
        world = fixed.TransformContinuousIndexToPhysicalPoint(voxel.tolist())
        expected = moving.TransformPhysicalPointToContinuousIndex(world)
        np.testing.assert_allclose(matrix[:3, :3] @ voxel + matrix[:3, 3], expected, atol=1e-3)
