import gzip
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from l2reg.io.gzip_writer import FloatGzipWriter
from l2reg.io.volumes import write_image


def compressed(path: Path, *parts: bytes) -> bytes:
    with path.open("wb") as file, FloatGzipWriter(file) as writer:
        for n, part in enumerate(parts):
            assert writer.tell() == sum(map(len, parts[:n]))
            assert writer.write(part) == len(part)
    return path.read_bytes()


def test_gzip_reads_what_was_written_part_by_part(tmp_path: Path) -> None:
    parts = (b"header", bytes(1000), np.arange(300.0).tobytes())
    assert gzip.decompress(compressed(tmp_path / "a.gz", *parts)) == b"".join(parts)


def test_a_position_ahead_is_reached_by_zeros_and_none_behind(tmp_path: Path) -> None:
    with (tmp_path / "a.gz").open("wb") as file, FloatGzipWriter(file) as writer:
        writer.write(b"abc")
        assert writer.seek(3) == 3
        assert writer.seek(5) == 5
        with pytest.raises(OSError, match="seek"):
            writer.seek(4)
    assert gzip.decompress((tmp_path / "a.gz").read_bytes()) == b"abc\0\0"


def test_equal_data_give_equal_files_that_hold_no_time_or_name(tmp_path: Path) -> None:
    first, second = (compressed(tmp_path / name, b"data") for name in ("a.gz", "b.gz"))
    assert first == second
    assert first[3:8] == bytes(5)  # flags and time of a gzip header (RFC 1952)


def test_floats_become_hardly_larger_than_by_a_search_for_repetitions(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = np.zeros((40, 50, 60), np.float32)
    values[8:30] = rng.normal(0, 3, (22, 50, 60))
    size = len(compressed(tmp_path / "a.gz", values.tobytes()))
    assert size < 1.02 * len(zlib.compress(values.tobytes(), 1)) < 0.6 * values.nbytes


def test_volumes_of_floats_and_integers_are_read_as_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    affine = np.diag([2.0, 1.5, 3.0, 1.0])
    for kind in ("float32", "float64", "int16", "uint8"):
        values = (50 * rng.random((5, 6, 7))).astype(kind)
        path = tmp_path / f"{kind}.nii.gz"
        write_image(path, nib.Nifti1Image(values, affine, dtype=values.dtype))
        image = nib.load(path)
        assert image.get_data_dtype() == values.dtype
        np.testing.assert_array_equal(np.asarray(image.dataobj), values)
        by_itk = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))).transpose()
        np.testing.assert_array_equal(by_itk, values)
