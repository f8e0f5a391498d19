from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from l2reg.problems import InputError
from l2reg.transforms.vector_volumes import read_vectors


def save(path: Path, array: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(array.astype(np.float32), np.eye(4)), path)
    return path


@pytest.mark.parametrize("axes", [4, 5])
def test_components_come_first(tmp_path: Path, axes: int, random: np.random.Generator) -> None:
    array = random.random((4, 5, 6, 3)).astype(np.float32)
    stored = array if axes == 4 else array[:, :, :, None]
    volume = read_vectors(save(tmp_path / "a.nii.gz", stored))
    assert volume.axes == axes
    assert volume.grid.shape == (4, 5, 6)
    np.testing.assert_array_equal(volume.vectors, np.moveaxis(array, 3, 0))


def test_a_scan_and_a_field_with_nan_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is no displacement field\n.*\n.*shape \(4, 5, 6\)"):
        read_vectors(save(tmp_path / "scan.nii.gz", np.zeros((4, 5, 6))))
    with pytest.raises(InputError, match="3 that are NaN"):
        array = np.zeros((4, 5, 6, 3))
        array[1, 1, 1] = np.nan
        read_vectors(save(tmp_path / "nan.nii.gz", array))
