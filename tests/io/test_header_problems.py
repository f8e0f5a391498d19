from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from l2reg.io.headers import placement
from l2reg.problems import InputError

TURN = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])


def scan(path: Path, qform: np.ndarray, sform: np.ndarray, unit: str = "mm") -> Path:
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.float32), None)
    image.header.set_qform(qform, 1)
    image.header.set_sform(sform, 4)
    image.header.set_xyzt_units(unit)
    nib.save(image, path)
    return path


def affine(rotation: np.ndarray) -> np.ndarray:
    form = np.eye(4)
    form[:3, :3], form[:3, 3] = rotation * (2.0, 3.0, 4.0), (5.0, -7.0, 9.0)
    return form


@pytest.mark.parametrize("directions", [(-1, 1, 1), (1, -1, 1), (1, 1, -1), (-1, -1, 1)])
@pytest.mark.parametrize("rotation", [np.eye(3), TURN])
def test_forms_whose_axes_run_in_opposite_directions_are_refused(
    tmp_path: Path, rotation: np.ndarray, directions: tuple[int, ...]
) -> None:
    qform, sform = affine(rotation), affine(rotation)
    sform[:3, :3] *= directions
    path = scan(tmp_path / "a.nii", qform, sform)
    with pytest.raises(InputError, match=r"a\.nii: has a qform and an sform whose axes run"):
        placement(nib.load(path), path)


@pytest.mark.parametrize("shift_mm", [0.001, 20.0])
@pytest.mark.parametrize("unit", ["mm", "meter"])
def test_opposite_axes_from_another_origin_are_left_for_the_qform_as_by_itk(
    tmp_path: Path, shift_mm: float, unit: str
) -> None:
    qform, sform = affine(np.eye(3)), affine(np.eye(3))
    sform[:3, 2] *= -1
    sform[2, 3] += shift_mm  # 20 as of a volume that was turned round
    path = scan(tmp_path / "a.nii", qform, sform, unit)
    mm = 1.0 if unit == "mm" else 1e3
    np.testing.assert_allclose(placement(nib.load(path), path).affine[:3], mm * qform[:3])
    by_itk = SimpleITK.ReadImage(str(path))
    assert by_itk.GetDirection()[8] == 1
    np.testing.assert_allclose(by_itk.GetOrigin(), (-5 * mm, 7 * mm, 9 * mm))
