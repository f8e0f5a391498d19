from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from l2reg.io.headers import Placement
from l2reg.io.volumes import (
    VECTOR,
    place_problems,
    read_affine,
    read_header,
    read_image,
    read_labels,
    read_mask,
    write_volume,
)
from l2reg.problems import InputError

SHAPE = (4, 5, 6)


def test_a_volume_is_read_with_its_grid(tmp_path: Path, volume: Callable[..., Path]) -> None:
    array = np.arange(120, dtype=np.int16).reshape(SHAPE)
    path = volume(tmp_path / "a.nii.gz", array, (1.0, 1.5, 2.0))
    np.testing.assert_array_equal(read_image(path), array)
    assert read_image(path).dtype == np.float32
    assert (read_header(path).shape, read_header(path).spacing_mm) == (SHAPE, (1.0, 1.5, 2.0))
    np.testing.assert_array_equal(read_affine(path), np.diag([1.0, 1.5, 2.0, 1.0]))


def test_the_headers_factor_is_applied(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.linspace(0, 1, 120, dtype=np.float32).reshape(SHAPE), np.eye(4))
    image.header.set_data_dtype(np.uint8)
    nib.save(image, tmp_path / "a.nii.gz")
    np.testing.assert_allclose(
        read_image(tmp_path / "a.nii.gz").ravel()[[0, -1]], [0, 1], atol=1e-3
    )


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.nii\.gz: is missing"):
        read_image(tmp_path / "none.nii.gz")


@pytest.mark.parametrize("kept", [0, 10, 200, 0.5, 0.99])
def test_a_truncated_file_is_reported(
    tmp_path: Path, volume: Callable[..., Path], kept: float, random: np.random.Generator
) -> None:
    path = volume(tmp_path / "a.nii.gz", random.normal(size=(20, 21, 22)).astype(np.float32))
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    with pytest.raises(InputError, match=r"a\.nii\.gz: cannot be read") as error:
        read_image(path)
    for words in ("expected", "found", "remedy", "download"):
        assert words in str(error.value)


def test_a_text_file_is_no_volume(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    path.write_text("<html>404</html>")
    with pytest.raises(InputError, match="cannot be read"):
        read_header(path)


def test_four_axes_are_refused(tmp_path: Path, volume: Callable[..., Path]) -> None:
    path = volume(tmp_path / "a.nii.gz", np.zeros((*SHAPE, 2), np.float32))
    with pytest.raises(InputError, match=r"(?s)is not a 3D volume.*\(4, 5, 6, 2\)"):
        read_image(path)


def test_trailing_axes_of_length_one_are_dropped(
    tmp_path: Path, volume: Callable[..., Path]
) -> None:
    array = np.arange(120, dtype=np.int16).reshape(*SHAPE, 1, 1)
    path = volume(tmp_path / "a.nii.gz", array)
    assert read_header(path).shape == SHAPE
    np.testing.assert_array_equal(read_image(path), array[..., 0, 0])
    np.testing.assert_array_equal(read_labels(path), array[..., 0, 0])
    slice_alone = volume(tmp_path / "b.nii.gz", array[:, :, :1])
    assert read_image(slice_alone).shape == (4, 5, 1)


@pytest.mark.parametrize(
    ("voxel", "words"),
    [
        (np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]), r"several channels \(RGB\)"),
        (np.dtype(np.complex64), "complex numbers"),
    ],
)
def test_voxels_of_more_than_one_number_are_refused(
    tmp_path: Path, voxel: np.dtype, words: str
) -> None:
    path = tmp_path / "a.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, voxel), np.eye(4)), path)
    for read in (read_image, read_labels, read_mask):
        with pytest.raises(InputError, match=f"(?s)one real number.*{words}.*remedy"):
            read(path)


@pytest.mark.parametrize(
    "rows",
    [
        [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 2, 0]],
        [[1, 1, 0, 0], [2, 2, 0, 0], [0, 0, 1, 0]],
        [[np.nan, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]],
    ],
)
def test_a_header_that_cannot_be_inverted_is_refused(
    tmp_path: Path, rows: list[list[float]]
) -> None:
    image = nib.Nifti1Image(np.zeros(SHAPE, np.float32), None)
    image.header["sform_code"] = 1
    for name, row in zip(("srow_x", "srow_y", "srow_z"), rows, strict=True):
        image.header[name] = row
    path = tmp_path / "a.nii.gz"
    nib.save(image, path)
    with pytest.raises(InputError, match=r"(?s)has an invalid affine.*found.*sform"):
        read_affine(path)


def test_tiny_voxels_are_no_fault(tmp_path: Path, volume: Callable[..., Path]) -> None:
    path = volume(tmp_path / "a.nii.gz", np.zeros(SHAPE, np.float32), (1e-3, 2e-3, 4e-3))
    np.testing.assert_allclose(np.diag(read_affine(path)), [1e-3, 2e-3, 4e-3, 1], rtol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_that_are_not_numbers_are_counted_and_located(
    tmp_path: Path, volume: Callable[..., Path], value: float
) -> None:
    array = np.zeros(SHAPE, np.float32)
    array[1, 2, 3] = array[3, 4, 5] = value
    path = volume(tmp_path / "a.nii.gz", array)
    with pytest.raises(InputError, match=r"2 voxels of NaN or infinity, the first at \(1, 2, 3\)"):
        read_image(path)


def test_labels_stored_as_floats_are_read_if_they_are_integers(
    tmp_path: Path, volume: Callable[..., Path]
) -> None:
    labels = np.arange(120, dtype=np.float32).reshape(SHAPE) % 36
    read = read_labels(volume(tmp_path / "a.nii.gz", labels))
    np.testing.assert_array_equal(read, labels)
    assert read.dtype == np.int16


@pytest.mark.parametrize("value", [0.5, np.nan])
def test_a_label_file_of_other_floats_is_refused(
    tmp_path: Path, volume: Callable[..., Path], value: float
) -> None:
    labels = np.zeros(SHAPE, np.float32)
    labels[0, 0, 1] = value
    with pytest.raises(InputError, match=r"(?s)is not a label map.*nearest-neighbour"):
        read_labels(volume(tmp_path / "a.nii.gz", labels))


def test_labels_beyond_int16_are_refused(tmp_path: Path, volume: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="out of range"):
        read_labels(volume(tmp_path / "a.nii.gz", np.full(SHAPE, 40000, np.int32)))


def test_an_empty_mask_is_refused(tmp_path: Path, volume: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="is an empty mask"):
        read_mask(volume(tmp_path / "a.nii.gz", np.zeros(SHAPE, np.uint8)))


def test_a_written_volume_is_read_again_under_its_affine(tmp_path: Path) -> None:
    array = np.arange(120, dtype=np.int16).reshape(SHAPE)
    affine = np.array([[0, -1.5, 0, 3], [2, 0, 0, 4], [0, 0, 0.5, 5], [0, 0, 0, 1.0]])
    write_volume(tmp_path / "new" / "a.nii.gz", array, Placement(affine))
    image = nib.load(tmp_path / "new" / "a.nii.gz")
    assert image.get_data_dtype() == np.int16
    np.testing.assert_array_equal(np.asarray(image.dataobj), array)
    np.testing.assert_array_equal(image.affine, affine)


def test_vectors_are_marked_as_such_and_as_millimetres(tmp_path: Path) -> None:
    vectors = np.zeros((*SHAPE, 1, 3), np.float32)
    write_volume(tmp_path / "a.nii.gz", vectors, Placement(np.eye(4)), intent=VECTOR)
    header = nib.load(tmp_path / "a.nii.gz").header
    assert header.get_intent()[0] == "vector"
    assert header.get_xyzt_units()[0] == "mm"


def test_faulty_places_are_listed_once_and_together(
    tmp_path: Path, volume: Callable[..., Path]
) -> None:
    good = volume(tmp_path / "good.nii.gz", np.zeros(SHAPE, np.float32))
    flat = tmp_path / "flat.nii.gz"
    image = nib.Nifti1Image(np.zeros(SHAPE, np.float32), None)
    image.header["sform_code"] = 1
    nib.save(image, flat)
    none = tmp_path / "none.nii.gz"
    problems = place_problems([flat, good, none, flat])
    assert [problem.where for problem in problems] == [str(flat), str(none)]
