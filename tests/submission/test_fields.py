import gzip
import io
import struct
import tracemalloc
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, zoom

from l2reg.geometry.resize import resize_field
from l2reg.problems import InputError
from l2reg.submission.fields import read_field, read_full_field, to_submission, write_field
from l2reg.submission.half_resolution import half_shape

SHAPE = (40, 36, 44)
HALF = (20, 18, 22)


def ramp(shape: tuple[int, int, int]) -> torch.Tensor:
    """A smooth field of several voxels: a ramp along every axis."""
    grid = torch.stack(torch.meshgrid(*[torch.arange(float(n)) for n in shape], indexing="ij"))
    return (0.15 * grid - 0.1 * grid.roll(1, dims=0) + 2)[None]


def test_a_constant_of_4_voxels_is_stored_as_4_whatever_the_grid_it_comes_from() -> None:
    full = torch.full((1, 3, *SHAPE), 4.0)
    for grid in (SHAPE, HALF, (14, 12, 15)):
        (field,) = to_submission(resize_field(full, grid), SHAPE)
        assert field.shape == (3, *HALF)
        assert field.dtype == np.float16
        assert (field == 4).all()
        up = np.stack([zoom(c.astype(np.float32), 2, order=2) for c in field])
        np.testing.assert_allclose(up, 4, atol=1e-5)


def test_a_field_in_half_voxels_is_stored_in_full_voxels() -> None:
    disp = torch.ones(1, 3, *HALF)
    (field,) = to_submission(disp, SHAPE)
    expected = [39 / 19, 35 / 17, 43 / 21]
    np.testing.assert_allclose(field[:, 3, 4, 5], expected, rtol=1e-3)


def official_error(field: np.ndarray, full: torch.Tensor) -> float:
    up = np.stack([zoom(c.astype(np.float32), 2, order=2) for c in field])
    return float(np.percentile(np.abs(up - full[0].numpy()), 95))


def test_the_official_upsampling_gives_a_ramp_back_and_other_samplings_do_not() -> None:
    full = ramp(SHAPE)
    (ours,) = to_submission(full, SHAPE)
    others = {
        "stride": full[0, :, ::2, ::2, ::2],
        "average pool": torch.nn.functional.avg_pool3d(full, 2)[0],
        "not corner aligned": torch.nn.functional.interpolate(
            full, scale_factor=0.5, mode="trilinear", align_corners=False
        )[0],
        "halved values": torch.from_numpy(ours / 2),
    }
    assert official_error(ours, full) < 0.05
    for name, field in others.items():
        assert official_error(field.numpy().astype(np.float16), full) > 0.05, name


def test_a_smooth_field_survives_the_whole_way(random: np.random.Generator) -> None:
    noise = gaussian_filter(random.normal(size=(3, *SHAPE)), (0, 6, 6, 6))
    full = torch.from_numpy((5 * noise / noise.std()).astype(np.float32))[None]
    (field,) = to_submission(full, SHAPE)
    up = np.stack([zoom(c.astype(np.float32), 2, order=2) for c in field])
    assert np.abs(up - full[0].numpy()).mean() < 0.02


def test_the_official_test_vector_is_met() -> None:
    """Field and values: the public evaluation, run on this synthetic case (its half-size path)."""
    i, j, k = np.meshgrid(*[np.arange(n, dtype=np.float64) for n in SHAPE], indexing="ij")
    full = np.stack([
        2 * np.sin(2 * np.pi * j / 36) * np.cos(2 * np.pi * i / 40),
        -1.5 * np.cos(2 * np.pi * k / 44) + 0.02 * i,
        np.sin(2 * np.pi * i / 40 + 0.5) * np.sin(2 * np.pi * k / 44),
    ])  # fmt: skip
    (ours,) = to_submission(torch.from_numpy(full)[None].float(), SHAPE)
    official = np.stack([zoom(c, 0.5, order=2) for c in full]).astype(np.float16)
    known = [0.116943359375, 0.12445068359375, 0.373046875]
    np.testing.assert_array_equal(official[:, 7, 9, 5], known)

    def error(half: np.ndarray) -> np.ndarray:
        return np.stack([zoom(c.astype(np.float32), 2, order=2) for c in half]) - full

    assert np.abs(error(official)).max() == pytest.approx(0.10919914957576587, abs=1e-6)
    assert np.abs(error(ours)).max() < 0.09
    assert np.square(error(ours)).mean() < 0.7 * np.square(error(official)).mean()


def test_a_batch_gives_one_field_a_pair() -> None:
    disp = torch.stack([torch.zeros(3, *HALF), torch.ones(3, *HALF)])
    fields = to_submission(disp, SHAPE)
    assert [float(field.max()) > 0 for field in fields] == [False, True]


def test_odd_sizes_cannot_be_submitted() -> None:
    assert half_shape((192, 160, 192)) == (96, 80, 96)
    with pytest.raises(InputError, match="even sizes"):
        half_shape((192, 161, 192))


def test_a_field_is_written_as_arr_0_and_read_back(tmp_path: Path) -> None:
    field = np.arange(3 * 20 * 18 * 22, dtype=np.float16).reshape(3, *HALF) / 100
    path = write_field(tmp_path / "task_02", "0001_0002", field)
    assert path.name == "disp_0001_0002.npz"
    with np.load(path) as content:
        assert content.files == ["arr_0"]
    np.testing.assert_array_equal(read_field(path.read_bytes(), str(path), SHAPE), field)


GOOD = np.zeros((3, *HALF), np.float16)
BAD = np.full((3, *HALF), np.nan, np.float16)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"a": GOOD, "b": GOOD}, "2 arrays"),
        ({}, "0 arrays"),
        ({"arr_0": GOOD.astype(np.float32)}, "float32, shape"),
        ({"arr_0": GOOD.transpose(1, 2, 3, 0)}, r"shape \(20, 18, 22, 3\)"),
        ({"arr_0": np.zeros((3, *SHAPE), np.float16)}, r"shape \(3, 40, 36, 44\)"),
        ({"arr_0": BAD}, "23760 values of NaN"),
    ],
)
def test_what_the_organisers_refuse_is_refused(
    tmp_path: Path, arrays: dict[str, np.ndarray], words: str
) -> None:
    path = tmp_path / "disp_0001_0001.npz"
    np.savez(path, **arrays)
    with pytest.raises(InputError, match=words) as error:
        read_field(path.read_bytes(), "disp_0001_0001.npz", SHAPE)
    assert "remedy" in str(error.value)


@pytest.mark.parametrize("content", [b"", b"no zip", "npy"])
def test_a_file_that_is_no_npz_is_refused(content: bytes | str) -> None:
    file = io.BytesIO(content if isinstance(content, bytes) else b"")
    if content == "npy":
        np.save(file, GOOD)
        file.seek(0)
    with pytest.raises(InputError, match="cannot be read as npz"):
        read_field(file.getvalue(), "x.npz", SHAPE)


def nifti(field: np.ndarray) -> bytes:
    return gzip.compress(nib.Nifti1Image(field, np.eye(4)).to_bytes())


def test_full_fields_are_read_component_first_in_the_precision_of_the_organisers(
    random: np.random.Generator,
) -> None:
    field = random.normal(size=(*SHAPE, 3)).astype(np.float32)
    read = read_full_field(nifti(field), "disp.nii.gz", SHAPE)
    assert read.dtype == np.float64
    np.testing.assert_array_equal(read, np.moveaxis(field, 3, 0))
    file = io.BytesIO()
    np.savez(file, field.astype(np.float64))
    read = read_full_field(file.getvalue(), "disp.npz", SHAPE)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, np.moveaxis(field, 3, 0))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cannot be read as .nii.gz"),
        (b"no gzip", "cannot be read as .nii.gz"),
        (gzip.compress(b"no nifti", mtime=0), "cannot be read as .nii.gz"),
        (nifti(np.zeros(SHAPE, np.float32)), r"expected  one array of shape \(40, 36, 44, 3\)"),
        (nifti(np.full((*SHAPE, 3), np.inf, np.float32)), "values that are not numbers"),
    ],
)
def test_full_fields_that_the_organisers_would_refuse_are_refused(
    content: bytes, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        read_full_field(content, "disp_0001_0001.nii.gz", SHAPE)


def npz(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def npy(header: str) -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(64)


@pytest.mark.parametrize(
    "content",
    [
        npy("{'descr': '<f2', 'fortran_order': False, 'shape': (1000000, 1000000)}"),
        npy("{'descr': '<f2', 'fortran_order': False, 'shape': (99999999999999999999,)}"),
        npy("{'descr': '<f2', 'fortran_order': False, 'shape': (((((("),
        npy("{'descr': '|O', 'fortran_order': False, 'shape': (2,)}"),
        npy("{'descr': '<U2', 'fortran_order': False, 'shape': (2,)}"),
        b"no array",
        b"",
    ],
)
def test_an_array_that_is_none_is_refused_before_memory_is_taken(content: bytes) -> None:
    tracemalloc.start()
    with pytest.raises(InputError, match=r"disp\.npz: cannot be read as npz"):
        read_field(npz(arr_0=content), "disp.npz", (12, 10, 14))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**22


def test_a_compressed_field_that_is_damaged_is_told_with_its_name() -> None:
    file = io.BytesIO()
    np.savez_compressed(file, np.zeros((3, 6, 5, 7), np.float16))
    content = bytearray(file.getvalue())
    content[60:64] = b"\xff\xff\xff\xff"
    with pytest.raises(InputError, match=r"disp\.npz: cannot be read as npz"):
        read_field(bytes(content), "disp.npz", (12, 10, 14))


def test_an_unpacked_field_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("l2reg.submission.fields.MAX_MEMBER", 10_000)
    packed = gzip.compress(bytes(10_001))
    with pytest.raises(InputError, match=r"disp\.nii\.gz.*\n.*\n.*more than 10000 bytes"):
        read_full_field(packed, "disp.nii.gz", (12, 10, 14))
