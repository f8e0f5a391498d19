from pathlib import Path

import nibabel as nib
import numpy as np

from l2reg.transforms.image_grid import read_grid


def test_a_grid_has_the_positions_of_all_voxels_in_the_order_of_the_array(tmp_path: Path) -> None:
    affine = np.array([[0, -1.5, 0, 3], [2, 0, 0, 4], [0, 0, 0.5, 5], [0, 0, 0, 1.0]])
    nib.save(nib.Nifti1Image(np.zeros((2, 3, 4, 1), np.int16), affine), tmp_path / "scan.nii.gz")
    grid = read_grid(tmp_path / "scan.nii.gz")
    assert grid.shape == (2, 3, 4)
    positions = [(affine @ [i, j, k, 1])[:3] for i in range(2) for j in range(3) for k in range(4)]
    np.testing.assert_allclose(grid.points().T, positions)
