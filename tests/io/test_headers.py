"""Where a file lies: SimpleITK is the independent reader."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from scipy.spatial.transform import Rotation

from l2reg.io.volumes import read_affine, read_header, read_placement, read_volume, write_volume
from l2reg.problems import InputError
from l2reg.transforms.world import voxels_to_world

SHAPE = (9, 10, 12)
SIZES = np.array([1.75, 1.25, 2.5])
UNITS = {"mm": 1.0, "unknown": 1.0, "micron": 1e-3, "meter": 1e3}


@pytest.fixture(autouse=True)
def silent_itk() -> Iterator[None]:
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    yield
    sitk.ProcessObject.SetGlobalWarningDisplay(True)


def affine(
    degrees: tuple[float, float, float] = (0, 0, 0),
    origin: tuple[float, float, float] = (-10.5, 20.25, 30.0),
    flip: bool = False,
    sizes: np.ndarray = SIZES,
) -> np.ndarray:
    matrix = np.eye(4)
    turn = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    matrix[:3, :3] = turn @ np.diag(sizes * [-1 if flip else 1, 1, 1])
    matrix[:3, 3] = origin
    return matrix


SHEAR = np.eye(4)
SHEAR[0, 2] = np.tan(np.radians(15))
HERE, THERE = affine((5, -8, 20)), affine((0, 10, -15), (0.0, -7.5, 3.0))


def save(
    path: Path,
    qform: np.ndarray,
    qform_code: int,
    sform: np.ndarray,
    sform_code: int,
    unit: str = "mm",
) -> Path:
    """Write a header in which the numbers of both forms stand, whatever the codes."""
    image = nib.Nifti1Image(np.arange(1080, dtype=np.float32).reshape(SHAPE), None)
    header = image.header
    header.set_qform(qform, code=1)
    header.set_sform(sform, code=1)
    header["qform_code"], header["sform_code"] = qform_code, sform_code
    header.set_xyzt_units(unit)
    nib.save(image, path)
    assert int(nib.load(path).header["qform_code"]) == qform_code
    assert int(nib.load(path).header["sform_code"]) == sform_code
    return path


def by_itk(image: sitk.Image, voxels: np.ndarray) -> np.ndarray:
    lps = [image.TransformContinuousIndexToPhysicalPoint(voxel.tolist()) for voxel in voxels.T]
    positions: np.ndarray = np.array(lps).T * [[-1], [-1], [1]]
    return positions


def assert_it_lies_where_itk_sees_it(path: Path) -> None:
    """Corners of the grid and a position outside agree to a thousandth of a voxel."""
    image = sitk.ReadImage(str(path))
    corners = np.indices((2, 2, 2)).reshape(3, 8) * (np.array(SHAPE)[:, None] - 1.0)
    voxels = np.hstack([corners, [[-2.5], [3.25], [14.0]]])
    spacing = np.array(image.GetSpacing())
    found = voxels_to_world(read_affine(path), voxels)
    np.testing.assert_allclose(found, by_itk(image, voxels), rtol=0, atol=1e-3 * spacing.min())
    np.testing.assert_allclose(read_header(path).spacing_mm, spacing, rtol=1e-6)
    np.testing.assert_allclose(read_volume(path).spacing_mm, spacing, rtol=1e-6)


@pytest.mark.parametrize("codes", list(product(range(5), range(5))), ids=str)
@pytest.mark.parametrize(
    ("qform", "sform"),
    [
        (HERE, THERE),
        (HERE, HERE),
        (affine(flip=True), affine((0, 0, 30))),
        (affine((4, 7, 170), flip=True), affine(flip=True)),
    ],
    ids=["apart", "alike", "left-handed qform", "both left-handed"],
)
def test_every_pair_of_codes_is_read_as_itk_reads_it(
    tmp_path: Path, codes: tuple[int, int], qform: np.ndarray, sform: np.ndarray
) -> None:
    path = save(tmp_path / "a.nii.gz", qform, codes[0], sform, codes[1])
    assert_it_lies_where_itk_sees_it(path)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("codes", [(0, 0), (1, 0), (0, 2), (1, 1), (1, 2), (2, 1)], ids=str)
def test_units_become_millimetres_as_in_itk(
    tmp_path: Path, unit: str, codes: tuple[int, int]
) -> None:
    scale = np.diag([*[1 / UNITS[unit]] * 3, 1])
    path = save(tmp_path / "a.nii.gz", scale @ HERE, codes[0], scale @ THERE, codes[1], unit)
    assert_it_lies_where_itk_sees_it(path)
    np.testing.assert_allclose(read_header(path).spacing_mm, SIZES, rtol=1e-6)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("tilt", [0, 1e-4, 3e-4, 1e-3, 0.01, 0.1, 1])
def test_rotations_by_nearly_half_a_turn_are_read_as_itk_reads_them(
    tmp_path: Path, tilt: float, flip: bool
) -> None:
    """The quaternion's first number is computed from the others there, and lost to rounding."""
    turned = affine((tilt, 0, 180 - tilt), flip=flip)
    assert_it_lies_where_itk_sees_it(save(tmp_path / "a.nii.gz", turned, 1, THERE, 2))


@pytest.mark.parametrize("codes", [(0, 1), (0, 3), (1, 1)], ids=str)
def test_voxel_sizes_are_those_of_pixdim_as_in_itk(
    tmp_path: Path, codes: tuple[int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    larger = affine((5, -8, 20), sizes=SIZES * [1.5, 1, 1])
    path = save(tmp_path / "a.nii.gz", HERE, codes[0], larger, codes[1])
    assert_it_lies_where_itk_sees_it(path)
    (line,) = capsys.readouterr().out.splitlines()
    assert "pixdim and sform disagree on the voxel size" in line
    assert "voxel (8, " in line


@pytest.mark.parametrize("codes", [(0, 0), (1, 0), (0, 2), (1, 1), (1, 2)], ids=str)
@pytest.mark.parametrize("signs", [(-1, 1, 1), (1, -1, -1), (-1, -1, -1), (1, 0, 1)], ids=str)
def test_negative_and_zero_voxel_sizes_are_read_as_itk_reads_them(
    tmp_path: Path,
    codes: tuple[int, int],
    signs: tuple[int, int, int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = save(tmp_path / "a.nii.gz", HERE, codes[0], HERE, codes[1])
    image = nib.load(path)
    copy = nib.Nifti1Image(np.asarray(image.dataobj), None, image.header)
    copy.header["pixdim"][1:4] *= signs
    nib.save(copy, path)
    assert_it_lies_where_itk_sees_it(path)
    if min(signs) < 0:
        (line,) = capsys.readouterr().out.splitlines()
        assert "pixdim is negative: ITK" in line
        assert "nibabel, which ignores the sign, at" in line
    write_volume(tmp_path / "b.nii.gz", np.zeros(SHAPE, np.float32), read_placement(path))
    fixed, written = (sitk.ReadImage(str(tmp_path / f"{name}.nii.gz")) for name in "ab")
    assert sitk.GetArrayFromImage(fixed - written).max() == 1079


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_voxel_size_that_is_no_number_is_refused(tmp_path: Path, value: float) -> None:
    image = nib.load(save(tmp_path / "a.nii.gz", HERE, 1, HERE, 1))
    image.header["pixdim"][2] = value
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.float32), None, image.header), tmp_path / "b.nii")
    with pytest.raises(InputError, match=r"(?s)an invalid voxel size.*1\.75, (nan|inf)"):
        read_affine(tmp_path / "b.nii")


@pytest.mark.parametrize("longer", [1e-6, 1e-5, 1e-4])
@pytest.mark.parametrize("code", [0, 2])
def test_a_quaternion_longer_than_one_by_rounding_is_read_as_itk_reads_it(
    tmp_path: Path, longer: float, code: int
) -> None:
    path = save(tmp_path / "a.nii.gz", HERE, 1, HERE, code)
    image = nib.Nifti1Image(np.zeros(SHAPE, np.float32), None, nib.load(path).header)
    quaternion = np.array([0.6, 0.0, 0.8]) * (1 + longer)
    for name, value in zip("bcd", quaternion, strict=True):
        image.header[f"quatern_{name}"] = value
    nib.save(image, path)
    assert_it_lies_where_itk_sees_it(path)


@pytest.mark.parametrize("name", ["a.img", "a.hdr"])
def test_a_pair_of_header_and_image_lies_where_itk_sees_it(tmp_path: Path, name: str) -> None:
    image = nib.Nifti1Pair(np.arange(1080, dtype=np.int16).reshape(SHAPE), None)
    image.header.set_qform(HERE, code=1)
    image.header.set_sform(THERE, code=2)
    nib.save(image, tmp_path / "a.img")
    assert_it_lies_where_itk_sees_it(tmp_path / name)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".img", ".hdr"])
def test_files_of_itk_lie_where_it_put_them(tmp_path: Path, suffix: str) -> None:
    image = sitk.GetImageFromArray(np.arange(1080, dtype=np.int16).reshape(SHAPE[::-1]))
    image.SetSpacing(SIZES.tolist())
    image.SetOrigin((3.5, -20.25, 7.0))
    image.SetDirection(Rotation.from_euler("xyz", (5, -8, 20), degrees=True).as_matrix().ravel())
    path = tmp_path / f"a{suffix}"
    sitk.WriteImage(image, str(path))
    assert_it_lies_where_itk_sees_it(path)


def test_a_second_version_of_nifti_is_read_and_its_place_carried(tmp_path: Path) -> None:
    image = nib.Nifti2Image(np.zeros(SHAPE, np.int16), None)
    image.header.set_qform(HERE, code=1)
    image.header.set_sform(HERE, code=4)
    nib.save(image, tmp_path / "a.nii.gz")
    place = read_placement(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(place.affine, HERE, rtol=0, atol=1e-6)
    write_volume(tmp_path / "b.nii.gz", np.zeros(SHAPE, np.int16), place)
    header = nib.load(tmp_path / "b.nii.gz").header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (1, 4)
    np.testing.assert_allclose(header.get_sform(), HERE, rtol=0, atol=1e-5)


def test_an_analyze_file_is_refused_as_it_states_no_position(tmp_path: Path) -> None:
    nib.save(nib.AnalyzeImage(np.zeros(SHAPE, np.int16), np.diag([*SIZES, 1])), tmp_path / "a.img")
    with pytest.raises(InputError, match=r"(?s)a\.img: is an Analyze file.*convert it to NIfTI"):
        read_affine(tmp_path / "a.img")
    assert read_header(tmp_path / "a.img").shape == SHAPE


@pytest.mark.parametrize("code", range(1, 5))
def test_a_sheared_sform_gives_way_to_the_qform_as_in_itk(
    tmp_path: Path, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(tmp_path / "a.nii.gz", HERE, 1, SHEAR @ HERE, code)
    assert_it_lies_where_itk_sees_it(path)
    (line,) = capsys.readouterr().out.splitlines()
    assert "the sform is sheared or cannot be inverted: ITK" in line


@pytest.mark.parametrize("code", range(1, 5))
def test_a_sheared_sform_alone_is_refused_as_by_itk(tmp_path: Path, code: int) -> None:
    path = save(tmp_path / "a.nii.gz", HERE, 0, SHEAR @ HERE, code)
    with pytest.raises(RuntimeError, match="orthonormal"):
        sitk.ReadImage(str(path))
    with pytest.raises(InputError, match=r"(?s)a\.nii\.gz: has a sheared sform.*degrees.*resample"):
        read_affine(path)
    assert read_header(path).shape == SHAPE


def test_the_angle_of_a_sheared_sform_is_told(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", affine(), 0, SHEAR @ affine(), 1)
    with pytest.raises(InputError, match="75 degrees between the axes i and k"):
        read_affine(path)


def test_a_disagreement_is_told_in_one_line_with_both_places(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(tmp_path / "a.nii.gz", affine(), 1, affine(origin=(-10.5, 22.0, 30.0)), 2)
    read_affine(path)
    read_volume(path)
    assert capsys.readouterr().out == (
        f"{path}: qform and sform disagree: ITK, ANTs and 3D Slicer place voxel 0 at "
        "(-10.5, 20.25, 30) mm, the sform at (-10.5, 22, 30); the former is used\n"
    )


def test_the_corner_is_told_if_voxel_0_is_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read_affine(save(tmp_path / "a.nii.gz", affine(), 1, affine((0, 0, 90)), 2))
    assert "place voxel (8, 9, " in capsys.readouterr().out


def test_a_unit_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    large = np.diag([1e3, 1e3, 1e3, 1]) @ affine()
    read_affine(save(tmp_path / "a.nii.gz", large, 1, large, 1, "micron"))
    (line,) = capsys.readouterr().out.splitlines()
    assert "the header is in micrometres" in line
    assert (
        "(-10.5, 20.25, 30) mm, nibabel, which ignores the unit, at (-10500, 20250, 30000)" in line
    )


@pytest.mark.parametrize(
    ("qform_code", "sform_code", "sform"),
    [
        (1, 1, THERE),  # all readers take the sform
        (0, 2, THERE),
        (3, 0, THERE),
        (0, 0, THERE),  # no position stated
        (1, 2, HERE),
        (1, 4, affine((5, -8, 20), (-10.4, 20.25, 30.0))),  # less than a tenth of a voxel
    ],
)
def test_agreement_is_silent(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    qform_code: int,
    sform_code: int,
    sform: np.ndarray,
) -> None:
    read_affine(save(tmp_path / "a.nii.gz", HERE, qform_code, sform, sform_code))
    assert capsys.readouterr().out == ""
