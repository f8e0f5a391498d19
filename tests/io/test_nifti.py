from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from l2reg.io.nifti import open_image, read_voxels, volume_shape, voxel_type
from l2reg.io.voxel_types import VoxelType

SHAPE = (4, 5, 6)


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "i8", "f4", "f8"])
@pytest.mark.parametrize("big_endian", [False, True])
def test_the_voxel_type_is_that_of_the_file(tmp_path: Path, dtype: str, big_endian: bool) -> None:
    header = nib.Nifti1Header(endianness=">" if big_endian else "<")
    array = np.arange(120).reshape(SHAPE).astype(dtype)
    nib.save(nib.Nifti1Image(array, np.eye(4), header, dtype=array.dtype), tmp_path / "a.nii.gz")
    kind = voxel_type(open_image(tmp_path / "a.nii.gz"))
    assert kind.dtype.newbyteorder("=") == np.dtype(dtype)
    assert (kind.slope, kind.intercept) == (1.0, 0.0)


@pytest.mark.parametrize(("dtype", "slope", "intercept"), [("i2", 0.25, -1024), ("f4", 1, 0)])
def test_only_integers_have_a_scaling(
    tmp_path: Path, dtype: str, slope: float, intercept: float
) -> None:
    image = nib.Nifti1Image(np.zeros(SHAPE, dtype), np.eye(4))
    image.header.set_slope_inter(0.25, -1024)
    nib.save(image, tmp_path / "a.nii.gz")
    opened = open_image(tmp_path / "a.nii.gz")
    assert voxel_type(opened) == VoxelType(np.dtype(dtype), slope, intercept)
    np.testing.assert_array_equal(read_voxels(opened, tmp_path / "a.nii.gz"), np.full(SHAPE, -1024))


def test_a_volume_of_one_time_point_has_three_axes(tmp_path: Path) -> None:
    array = np.arange(120, dtype=np.int16).reshape(*SHAPE, 1, 1)
    nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "a.nii.gz")
    opened = open_image(tmp_path / "a.nii.gz")
    assert volume_shape(opened, tmp_path / "a.nii.gz") == SHAPE
    assert read_voxels(opened, tmp_path / "a.nii.gz").shape == SHAPE
