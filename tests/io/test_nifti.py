import gzip
import struct
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from l2reg.io.nifti import array_from_bytes, open_image, read_voxels, volume_shape, voxel_type
from l2reg.io.voxel_types import VoxelType
from l2reg.problems import InputError, Problem

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


def remedy(path: Path) -> str:
    with pytest.raises(InputError, match="cannot be read") as error:
        open_image(path)
    return error.value.problems[0].remedy


def test_files_of_other_formats_are_told_with_what_converts_them(tmp_path: Path) -> None:
    (tmp_path / "a.vtk").write_bytes(b"# vtk")
    assert "sitk.ReadImage('a.vtk'), 'a.nii.gz'" in remedy(tmp_path / "a.vtk")
    (tmp_path / "IM0001").write_bytes(b"\0" * 128 + b"DICM")
    (tmp_path / "b.dcm").write_bytes(b"no preamble")
    for name in ("IM0001", "b.dcm"):
        assert "dcm2niix" in remedy(tmp_path / name)


def test_a_folder_is_told_as_such(tmp_path: Path) -> None:
    def problem(folder: str) -> Problem:
        with pytest.raises(InputError) as error:
            open_image(tmp_path / folder)
        return error.value.problems[0]

    for folder, name in (("nifti", "b.nii.gz"), ("other", "a.txt")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(b"\0" * 128 + b"DICM")
    assert problem("nifti").remedy == f"name a file such as {tmp_path}/nifti/b.nii.gz"
    (tmp_path / "other/a.txt").write_text("text")
    assert problem("other").what == "is a folder"
    assert problem("other").remedy == "name a file"


def test_a_wrong_ending_is_told_with_the_right_one(tmp_path: Path) -> None:
    for name in ("plain.nii", "packed.nii.gz"):
        nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.int16), np.eye(4)), tmp_path / name)
    (tmp_path / "plain.nii").rename(tmp_path / "a.nii.gz")
    (tmp_path / "packed.nii.gz").rename(tmp_path / "b.nii")
    assert remedy(tmp_path / "a.nii.gz") == "it is not compressed: rename it to a.nii"
    assert remedy(tmp_path / "b.nii") == "it is compressed: rename it to b.nii.gz"
    (tmp_path / "c.nii.gz").write_bytes(b"<html>")
    assert "download" in remedy(tmp_path / "c.nii.gz")


@pytest.mark.parametrize("name", ["A.NII.GZ", "a.nii.GZ", "A.NII"])
def test_an_ending_may_be_in_capitals(tmp_path: Path, name: str) -> None:
    array = np.arange(120, dtype=np.int16).reshape(SHAPE)
    lower = tmp_path / name.lower().replace("a.", "z.")
    nib.save(nib.Nifti1Image(array, np.eye(4)), lower)
    path = lower.rename(tmp_path / name)
    np.testing.assert_array_equal(read_voxels(open_image(path), path), array)


def test_a_quaternion_that_is_far_too_long_is_told(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros(SHAPE, np.int16), np.eye(4))
    image.header.set_sform(None, code=0)
    image.header["qform_code"], image.header["quatern_b"] = 1, 1.2
    copy = nib.Nifti1Image(np.zeros(SHAPE, np.int16), None, image.header)
    nib.save(copy, tmp_path / "a.nii.gz")
    assert "quaternion of its qform is longer than 1" in remedy(tmp_path / "a.nii.gz")


def voxels(path: Path) -> np.ndarray:
    return read_voxels(open_image(path), path)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nii.bz2", "a.hdr", "a.mgz"])
@pytest.mark.parametrize("scaling", [(1.0, 0.0), (0.25, -3.0)])
def test_voxels_are_those_that_nibabel_reads(
    tmp_path: Path, name: str, scaling: tuple[float, float]
) -> None:
    array = np.arange(4 * 3 * 5, dtype=np.int16).reshape(4, 3, 5)
    kind = {"a.hdr": nib.Nifti1Pair, "a.mgz": nib.MGHImage}.get(name, nib.Nifti1Image)
    image = kind(array, np.eye(4))
    if kind is not nib.MGHImage:
        image.header.set_slope_inter(*scaling)
    nib.save(image, tmp_path / name)
    expected = np.asanyarray(nib.load(tmp_path / name).dataobj)
    found = voxels(tmp_path / name)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_a_flipped_bit_of_a_compressed_volume_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    array = np.random.default_rng(0).integers(0, 4, (12, 10, 14)).astype(np.int16)
    path.write_bytes(gzip.compress(nib.Nifti1Image(array, np.eye(4)).to_bytes(), 0))  # stored
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    assert (np.asanyarray(nib.load(path).dataobj) != array).any()  # nibabel takes it
    with pytest.raises(InputError, match=r"a\.nii\.gz: cannot be read"):
        voxels(path)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_a_header_that_promises_terabytes_is_refused_before_memory_is_taken(
    tmp_path: Path, name: str, kind: type[nib.Nifti1Image]
) -> None:
    image = kind(np.zeros((4, 3, 5), np.float64), np.eye(4))
    image.header["dim"][1:4] = 32767, 32767, 2000
    plain = image.header.binaryblock + bytes(1000)
    (tmp_path / name).write_bytes(gzip.compress(plain) if name.endswith("gz") else plain)
    tracemalloc.start()
    with pytest.raises(InputError, match=rf"{name}: cannot be read\n.*\n.*promises 17\d* bytes"):
        voxels(tmp_path / name)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**22


@pytest.mark.parametrize("offset", [float("inf"), float("nan"), -1e30])
def test_voxels_at_an_impossible_place_are_told_as_such(tmp_path: Path, offset: float) -> None:
    path = tmp_path / "a.nii"
    content = bytearray(nib.Nifti1Image(np.zeros((4, 3, 5)), np.eye(4)).to_bytes())
    struct.pack_into("<f", content, 108, offset)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.nii: cannot be read"):
        voxels(path)


@pytest.mark.parametrize("kind", ["damaged", "short", "complex"])
def test_bytes_that_are_no_volume_are_an_error(kind: str) -> None:
    array = np.zeros((4, 3, 5), np.complex64 if kind == "complex" else np.float32)
    content = nib.Nifti1Image(array, np.eye(4)).to_bytes()
    content = {"damaged": b"x" * 400, "short": content[:-1]}.get(kind, content)
    with pytest.raises(ValueError, match=r"."):
        array_from_bytes(content)
