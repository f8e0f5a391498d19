import subprocess
import sys
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


@pytest.mark.parametrize("left", [b"", 40, 700, "flipped", b"PK\x03\x04", b"\0" * 1000])
def test_a_damaged_entry_is_computed_anew_and_replaced(
    tmp_path: Path, source: Path, left: int | bytes | str
) -> None:
    def compute() -> np.ndarray:
        return np.arange(1000.0).reshape(10, 10, 10)

    cache = Cache(tmp_path / "cache")
    cache.get(source, {}, compute)
    (entry,) = (tmp_path / "cache").iterdir()
    whole = entry.read_bytes()
    if left == "flipped":
        left = whole[:20].replace(b"{", b"}") + whole[20:]
    entry.write_bytes(whole[:left] if isinstance(left, int) else bytes(left))
    np.testing.assert_array_equal(cache.get(source, {}, compute), compute())
    assert entry.read_bytes() == whole


@pytest.mark.parametrize("fortran", [False, True])
def test_an_entry_with_a_single_wrong_bit_is_computed_anew(
    tmp_path: Path, source: Path, random: np.random.Generator, fortran: bool
) -> None:
    def compute() -> np.ndarray:
        values = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
        return np.asfortranarray(values) if fortran else values

    cache = Cache(tmp_path / "cache")
    cache.get(source, {}, compute)
    (entry,) = (tmp_path / "cache").iterdir()
    whole = entry.read_bytes()
    for bit in random.integers(0, 8 * len(whole), 40).tolist():
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        entry.write_bytes(damaged)
        np.testing.assert_array_equal(cache.get(source, {}, compute), compute())
        stored = np.load(entry)
        assert stored.shape == (3, 4, 5)
        np.testing.assert_array_equal(stored, compute())
    good = cache.get(source, {}, lambda: pytest.fail("a good entry was not read"))
    np.testing.assert_array_equal(good, compute())


def test_processes_that_ask_for_the_same_new_entries_at_once_all_get_them(
    tmp_path: Path, source: Path
) -> None:
    code = """if True:
        import sys
        from pathlib import Path
        import numpy as np
        from l2reg.data.cache import Cache
        cache = Cache(Path(sys.argv[1]))
        print("ready", flush=True)
        sys.stdin.readline()
        for n in range(25):
            array = cache.get(Path(sys.argv[2]), {"n": n}, lambda: np.full((40, 50, 60), n))
            assert array.shape == (40, 50, 60) and (array == n).all()"""
    command = [sys.executable, "-c", code, str(tmp_path / "cache"), str(source)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    processes = [subprocess.Popen(command, text=True, **pipes) for _ in range(3)]  # type: ignore[call-overload]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 0, stderr
    entries = list((tmp_path / "cache").iterdir())
    assert len(entries) == 25
    assert {int(np.load(entry).flat[0]) for entry in entries} == set(range(25))
    assert all(np.ptp(np.load(entry)) == 0 for entry in entries)
