from pathlib import Path

import nibabel as nib
import numpy as np

from l2reg.io.headers import Placement
from l2reg.transforms.image_grid import ImageGrid, read_grid


def test_a_grid_has_the_positions_of_all_voxels_in_the_order_of_the_array(tmp_path: Path) -> None:
    affine = np.array([[0, -1.5, 0, 3], [2, 0, 0, 4], [0, 0, 0.5, 5], [0, 0, 0, 1.0]])
    nib.save(nib.Nifti1Image(np.zeros((2, 3, 4, 1), np.int16), affine), tmp_path / "scan.nii.gz")
    grid = read_grid(tmp_path / "scan.nii.gz")
    assert grid.shape == (2, 3, 4)
    positions = [(affine @ [i, j, k, 1])[:3] for i in range(2) for j in range(3) for k in range(4)]
    np.testing.assert_allclose(grid.points().T, positions)


def test_planes_have_the_voxels_of_the_array_in_its_order() -> None:
    grid = ImageGrid((4, 2, 3), Placement(np.eye(4)))
    planes = list(grid.planes())
    assert [index for index, _ in planes] == [0, 1, 2, 3]
    stacked = np.concatenate([voxels for _, voxels in planes], axis=1)
    np.testing.assert_array_equal(stacked, np.indices(grid.shape).reshape(3, -1))


def test_corners_are_compared_in_voxels() -> None:
    first = ImageGrid((11, 5, 4), Placement(np.diag([2.0, 1, 1, 1])))
    longer = ImageGrid((11, 5, 4), Placement(np.diag([2.2, 1, 1, 1])))
    np.testing.assert_allclose(first.corner_distance(longer), 1.0)  # 10 voxels of 0.2 mm more
    assert first.coincides(ImageGrid((11, 5, 4), Placement(np.diag([2.0, 1, 1, 1]))))
    assert not first.coincides(longer)
    assert not first.coincides(ImageGrid((11, 4, 5), first.place))
