from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from l2reg.io.headers import placement
from l2reg.problems import InputError

TURN = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])


def scan(path: Path, qform: np.ndarray, sform: np.ndarray) -> Path:
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.float32), None)
    image.header.set_qform(qform, 1)
    image.header.set_sform(sform, 4)
    nib.save(image, path)
    return path


def affine(rotation: np.ndarray) -> np.ndarray:
    form = np.eye(4)
    form[:3, :3], form[:3, 3] = rotation * (2.0, 3.0, 4.0), (5.0, -7.0, 9.0)
    return form


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("rotation", [np.eye(3), TURN])
def test_forms_that_mirror_each_other_are_refused(
    tmp_path: Path, rotation: np.ndarray, axis: int
) -> None:
    qform, sform = affine(rotation), affine(rotation)
    sform[:3, axis] *= -1
    path = scan(tmp_path / "a.nii", qform, sform)
    with pytest.raises(
        InputError, match=r"a\.nii: has a qform and an sform that mirror each other"
    ):
        placement(nib.load(path), path)


def test_a_mirrored_form_of_an_origin_of_its_own_is_left_for_the_qform_as_by_itk(
    tmp_path: Path,
) -> None:
    qform, sform = affine(np.eye(3)), affine(np.eye(3))
    sform[:3, 2] *= -1
    sform[2, 3] += 20  # as of a volume that was flipped
    path = scan(tmp_path / "a.nii", qform, sform)
    np.testing.assert_allclose(placement(nib.load(path), path).affine, qform)
    by_itk = SimpleITK.ReadImage(str(path))
    assert by_itk.GetDirection()[8] == 1
    np.testing.assert_allclose(by_itk.GetOrigin(), (-5, 7, 9))
