from pathlib import Path

import numpy as np
import pytest

from l2reg.data.cache import Cache


class Counter:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> np.ndarray:
        self.calls += 1
        return np.full((2, 3, 4), self.calls, np.float32)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(b"voxels")
    return path


def test_the_same_is_computed_once(tmp_path: Path, source: Path) -> None:
    cache, compute = Cache(tmp_path / "cache"), Counter()
    for _ in range(3):
        np.testing.assert_array_equal(cache.get(source, {"shape": (2, 3, 4)}, compute), 1)
    assert compute.calls == 1


def test_another_setting_or_content_is_another_entry(tmp_path: Path, source: Path) -> None:
    cache, compute = Cache(tmp_path / "cache"), Counter()
    cache.get(source, {"window": 1}, compute)
    assert cache.get(source, {"window": 2}, compute).flat[0] == 2
    source.write_bytes(b"others")
    assert cache.get(source, {"window": 1}, compute).flat[0] == 3


def test_a_copy_of_the_file_shares_the_entry(tmp_path: Path, source: Path) -> None:
    cache, compute = Cache(tmp_path / "cache"), Counter()
    cache.get(source, {}, compute)
    copy = tmp_path / "elsewhere.nii.gz"
    copy.write_bytes(source.read_bytes())
    assert cache.get(copy, {}, compute).flat[0] == 1


def test_without_a_folder_nothing_is_cached(tmp_path: Path, source: Path) -> None:
    compute = Counter()
    Cache(None).get(source, {}, compute)
    Cache(None).get(source, {}, compute)
    assert compute.calls == 2
    assert [path.name for path in tmp_path.iterdir()] == ["scan.nii.gz"]


def test_a_failure_is_not_cached(tmp_path: Path, source: Path) -> None:
    def fails() -> np.ndarray:
        raise ValueError("no")

    cache = Cache(tmp_path / "cache")
    with pytest.raises(ValueError, match="no"):
        cache.get(source, {}, fails)
    assert cache.get(source, {}, Counter()).flat[0] == 1
