"""What is written at the place of another file: every reader sees both at the same place."""

from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from scipy.spatial.transform import Rotation

from l2reg.io.headers import Placement
from l2reg.io.volumes import VECTOR, read_placement, write_volume

SHAPE = (9, 10, 12)
SIZES = np.array([1.75, 1.25, 2.5]) / 1.37
ORIGIN = (-101.2345, 123.4567, 203.3333)
UNITS = {"mm": 1.0, "unknown": 1.0, "micron": 1e-3, "meter": 1e3}


def affine(
    degrees: tuple[float, float, float], origin: tuple[float, float, float], *, flip: bool = False
) -> np.ndarray:
    matrix = np.eye(4)
    turn = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    matrix[:3, :3] = turn @ np.diag(SIZES * [-1 if flip else 1, 1, 1])
    matrix[:3, 3] = origin
    return matrix


SHEAR = np.eye(4)
SHEAR[0, 2] = np.tan(np.radians(15))
FORMS = {
    "apart": (
        affine((5, -8, 20), ORIGIN),
        affine((1, 2, 3), (12.3456, -45.6789, 7.7777)),
    ),
    "left-handed": (
        affine((5, -8, 20), ORIGIN, flip=True),
        affine((5, -8, 20), (12.3456, -45.6789, 7.7777), flip=True),
    ),
    "sheared": (affine((5, -8, 20), ORIGIN), SHEAR @ affine((5, -8, 20), ORIGIN)),
}
FORMS |= {
    f"{rounding:g} apart": (
        affine((5, -8, 20), ORIGIN),
        affine((5, -8, 20), ORIGIN)
        + rounding * np.array([[1, -1, 1, 1], [-1, 1, 1, -1], [1, 1, -1, 1], [0, 0, 0, 0]]),
    )
    for rounding in (1e-6, 1e-5, 1e-4)
}


def carry(path: Path, unit: str, codes: tuple[int, int], forms: str) -> Path:
    """Write a volume of zeros and a field of vectors at the place of a file; return the volume."""
    scale = np.diag([*[1 / UNITS[unit]] * 3, 1])
    qform, sform = FORMS[forms]
    image = nib.Nifti1Image(np.arange(1080, dtype=np.float32).reshape(SHAPE), None)
    image.header.set_qform(scale @ qform, code=1)
    image.header.set_sform(scale @ sform, code=1)
    image.header["qform_code"], image.header["sform_code"] = codes
    image.header.set_xyzt_units(unit, "sec")
    nib.save(image, path)
    written = path.with_name("written.nii.gz")
    place = read_placement(path)
    write_volume(written, np.zeros(SHAPE, np.float32), place)
    vectors = np.zeros((*SHAPE, 1, 3), np.float32)
    write_volume(path.with_name("vectors.nii.gz"), vectors, place, intent=VECTOR)
    return written


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize(
    ("codes", "forms"),
    [
        *product([(0, 0), (1, 0), (1, 1), (1, 2), (1, 4), (3, 2)], FORMS),
        *product([(0, 2)], ["apart", "left-handed"]),
    ],
    ids=str,
)
def test_what_is_written_at_a_files_place_lies_there_for_every_reader(
    tmp_path: Path, codes: tuple[int, int], unit: str, forms: str
) -> None:
    """SimpleITK subtracts images only if origin and axes agree to a millionth."""
    path = tmp_path / "a.nii.gz"
    written = carry(path, unit, codes, forms)
    fixed, own = (sitk.ReadImage(str(each)) for each in (path, written))
    assert sitk.GetArrayFromImage(fixed - own).max() == 1079
    field = sitk.ReadImage(str(tmp_path / "vectors.nii.gz"))
    for get in ("GetOrigin", "GetSpacing", "GetDirection"):
        assert getattr(field, get)() == getattr(fixed, get)()
    for name in ("written", "vectors"):
        image, source = nib.load(tmp_path / f"{name}.nii.gz"), nib.load(path)
        np.testing.assert_array_equal(image.affine, source.affine)
        assert image.header.get_xyzt_units() == (unit, "unknown")  # no unit of times
        for form in ("get_qform", "get_sform"):
            matrix, code = getattr(image.header, form)(coded=True)
            expected, expected_code = getattr(source.header, form)(coded=True)
            assert code == expected_code
            if matrix is not None:
                np.testing.assert_array_equal(matrix, expected)


@pytest.mark.parametrize("flip", [False, True])
def test_a_place_that_no_file_states_is_written_in_both_forms(tmp_path: Path, flip: bool) -> None:
    place = affine((5, -8, 20), ORIGIN, flip=flip)
    path = tmp_path / "a.nii.gz"
    write_volume(path, np.zeros(SHAPE, np.float32), Placement(place))
    header = nib.load(path).header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (1, 1)
    np.testing.assert_allclose(header.get_qform(), place, rtol=0, atol=1e-4)
    np.testing.assert_allclose(header.get_sform(), place, rtol=0, atol=1e-5)
    assert header.get_xyzt_units()[0] == "mm"
