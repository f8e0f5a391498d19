from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from l2reg.io.scan_source import ScanSource, as_source, input_digest
from l2reg.io.volumes import read_volume
from l2reg.problems import InputError

SHAPE = (6, 5, 4)


@pytest.fixture
def series(random: np.random.Generator) -> np.ndarray:
    """Five volumes, in files of several kinds, whose forms disagree in NIfTI."""
    array = random.integers(0, 900, (*SHAPE, 5)).astype(np.int16)
    image = nib.Nifti1Image(array, None)
    image.header.set_slope_inter(0.5, -10)
    image.set_qform(np.diag([2.0, 3, 4, 1]), code=1)
    image.set_sform(np.diag([2.0, 3, 4, 1]) + np.eye(4, k=3), code=2)
    nib.save(image, "a.nii.gz")
    nib.save(nib.Nifti1Image(array[..., None], np.diag([2.0, 3, 4, 1])), "trailing.nii")
    by_itk = sitk.JoinSeries([sitk.GetImageFromArray(array[..., n].T) for n in range(5)])
    sitk.WriteImage(by_itk, "a.nrrd")
    return array


@pytest.mark.parametrize("n", [0, 3, 4])
def test_a_volume_of_several_is_read(series: np.ndarray, n: int) -> None:
    volume = read_volume(ScanSource(Path("a.nii.gz"), n))
    np.testing.assert_array_equal(volume.array, 0.5 * series[..., n] - 10)
    np.testing.assert_array_equal(volume.affine, np.diag([2.0, 3, 4, 1]))
    assert volume.voxel_type.dtype.newbyteorder("=") == np.int16
    assert volume.voxel_type.slope == 0.5
    for name in ("trailing.nii", "a.nrrd"):
        other = read_volume(ScanSource(Path(name), n))
        np.testing.assert_array_equal(other.array, series[..., n])
    assert volume.place.header is not None
    assert int(volume.place.header["sform_code"]) == 2


def test_a_file_of_one_volume_is_that_volume(series: np.ndarray) -> None:
    nib.save(nib.Nifti1Image(series[..., 0], np.eye(4)), "one.nii")
    array = read_volume(ScanSource(Path("one.nii"), 3)).array
    np.testing.assert_array_equal(array, series[..., 0])


def test_several_volumes_are_refused_with_the_option_that_selects_one(series: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"(?s)a\.nii\.gz: is not a 3D volume.*--volume 0"):
        read_volume(ScanSource(Path("a.nii.gz")))
    for n in (5, -1):
        with pytest.raises(InputError, match=rf"(?s)a\.nii\.gz: has no volume {n}.*0 to 4"):
            read_volume(ScanSource(Path("a.nii.gz"), n))


def test_a_truncated_file_is_refused_unless_the_volume_is_whole(series: np.ndarray) -> None:
    nib.save(nib.Nifti1Image(series, np.eye(4)), "b.nii")
    Path("b.nii").write_bytes(Path("b.nii").read_bytes()[: 352 + 2 * 3 * 120])
    whole = read_volume(ScanSource(Path("b.nii"), 2)).array
    np.testing.assert_array_equal(whole, series[..., 2])
    with pytest.raises(InputError, match=r"b\.nii: cannot be read"):
        read_volume(ScanSource(Path("b.nii"), 3))


def test_an_image_in_memory_is_read_as_its_file(series: np.ndarray) -> None:
    affine = np.diag([2.0, 3, 4, 1]) + np.eye(4, k=3)
    array = series[..., 1]
    image = nib.Nifti1Image(array, affine)
    nib.save(image, "b.nii.gz")
    for given in (image, nib.load("b.nii.gz"), sitk.ReadImage("b.nii.gz"), (array, affine)):
        volume = read_volume(as_source(given))
        np.testing.assert_array_equal(volume.array, array)
        np.testing.assert_allclose(volume.affine, affine)
        assert volume.voxel_type.dtype == np.int16
    assert as_source(nib.load("b.nii.gz")).path.name == "b.nii.gz"
    assert str(as_source((array, affine), 2)) == "image in memory, volume 2"


def test_the_header_in_memory_counts_and_not_the_one_on_the_disk(series: np.ndarray) -> None:
    image = nib.load("trailing.nii")
    moved = nib.Nifti1Image(image.dataobj, image.affine + np.eye(4, k=3), image.header)
    moved.file_map = image.file_map
    volume = read_volume(as_source(moved, 1))
    np.testing.assert_array_equal(volume.affine, moved.affine)
    np.testing.assert_array_equal(volume.array, series[..., 1])


def test_masks_and_series_in_memory_are_scans(series: np.ndarray) -> None:
    mask = read_volume(as_source((series[..., 0] > 400, np.eye(4))))
    np.testing.assert_array_equal(mask.array, series[..., 0] > 400)
    volume = read_volume(as_source((series, np.eye(4)), 4))
    np.testing.assert_array_equal(volume.array, series[..., 4])


@pytest.mark.parametrize("given", [3, np.zeros(SHAPE), (np.zeros(SHAPE), np.eye(3))])
def test_what_is_no_scan_is_refused_with_what_is(given: object) -> None:
    with pytest.raises(InputError, match=r"(?s)is no scan.*\(array, affine\)"):
        as_source(given)
    with pytest.raises(InputError, match="does not have one real number"):
        read_volume(as_source((np.zeros(SHAPE, complex), np.eye(4))))


@pytest.mark.parametrize("name", ["a.mhd", "a.nhdr", "a.nii", "a.mha", "series"])
def test_a_digest_changes_with_any_byte_of_an_input_and_with_nothing_else(name: str) -> None:
    path = Path("scans") / name
    folder = path if name == "series" else path.parent
    folder.mkdir(parents=True)
    if name == "series":
        for n in range(3):
            (path / f"{n}.dcm").write_bytes(bytes([n]))
    else:
        sitk.WriteImage(sitk.Image(4, 5, 6, sitk.sitkInt16), str(path))
    before = input_digest(path)
    Path("scans/beside.txt").write_text("text")
    assert input_digest(path) == before is not None
    for part in [file for file in folder.iterdir() if file.name != "beside.txt"]:
        content = part.read_bytes()
        part.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert input_digest(path) != before
        part.write_bytes(content)
        assert input_digest(path) == before


def test_what_is_no_file_has_no_digest() -> None:
    assert input_digest(Path("nowhere.nii.gz")) is None
