import errno
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from l2reg.io.files import (
    atomic_write,
    check_writable,
    content_digest,
    ensure_writable,
    files_below,
    is_system_error,
    json_number,
    load_json,
    make_folder,
    remove_leftovers,
    strict_json,
)
from l2reg.problems import InputError


@pytest.mark.parametrize("indent", [None, 1])
def test_json_holds_no_bare_nan_and_numbers_are_read_again(indent: int | None) -> None:
    values = [0.1, math.nan, math.inf, -math.inf, np.float64("nan"), 3]
    text = strict_json({"a": {1: tuple(values)}, "b": ["NaN", True, None]}, indent=indent)
    content = json.loads(text, parse_constant=pytest.fail)
    assert content["b"] == ["NaN", True, None]
    np.testing.assert_array_equal([json_number(v) for v in content["a"]["1"]], values)


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new/folder/file.txt"
    with atomic_write(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
    assert path.read_text() == "half"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


def test_a_crash_keeps_the_previous_file_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("before")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "the disk is full"), (errno.EACCES, "cannot be written")],
)
def test_a_full_or_protected_disk_is_reported(tmp_path: Path, number: int, words: str) -> None:
    path = tmp_path / "file.txt"
    with pytest.raises(InputError, match=words) as error, atomic_write(path) as temporary:
        temporary.write_text("half")
        raise OSError(number, os.strerror(number))
    assert str(path) in str(error.value)
    assert "remedy" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_real_full_device_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the disk is full"), atomic_write(tmp_path / "x"):
        with Path("/dev/full").open("w") as full:
            full.write("anything")


def test_a_folder_is_checked_and_left_unchanged(tmp_path: Path) -> None:
    folder = tmp_path / "new/folder"
    ensure_writable(folder)
    assert list(folder.iterdir()) == []
    (folder / "file").touch()
    for below in (folder / "file", folder / "file/deeper"):
        with pytest.raises(InputError, match="cannot be written"):
            ensure_writable(below)
    assert [path.name for path in folder.iterdir()] == ["file"]


def test_a_check_beforehand_leaves_no_folder(tmp_path: Path) -> None:
    check_writable(tmp_path / "new/folder")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    check_writable(tmp_path / "mine")
    (tmp_path / "mine/file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        check_writable(tmp_path / "mine/file/deeper")
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "file"]


def test_a_place_that_takes_no_folders_is_reported() -> None:
    for write in (ensure_writable, check_writable, make_folder):
        with pytest.raises(InputError, match=r"/proc/x.*: cannot be written"):
            write(Path("/proc/x"))


def test_other_disk_errors_are_left_alone(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="strange"), atomic_write(tmp_path / "x"):
        raise OSError(errno.EIO, "strange")


def test_two_writers_of_one_file_do_not_meet_and_the_last_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    with atomic_write(path) as first:
        first.write_text("first")
        with atomic_write(path) as second:
            second.write_text("second")
            assert first != second
            assert first.name.endswith(".nii.gz")
        assert path.read_text() == "second"
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_on_the_disk_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, synced = tmp_path / "file.txt", []

    def fsync(descriptor: int) -> None:
        synced.append((Path(f"/proc/self/fd/{descriptor}").readlink().name, path.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    with atomic_write(path) as temporary:
        temporary.write_text("x")
    assert synced == [(temporary.name, False), (tmp_path.name, True)]


def test_what_a_killed_process_left_is_removed_and_a_living_one_keeps_its_file(
    tmp_path: Path,
) -> None:
    code = """if True:
        import os, sys, time
        from pathlib import Path
        from l2reg.io.files import atomic_write
        with atomic_write(Path(sys.argv[1])) as temporary:
            temporary.write_text("half")
            print("written", flush=True)
            time.sleep(60)"""

    def start(name: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", code, str(tmp_path / name)]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"written\n"
        return writer

    with start("killed") as killed:
        killed.kill()
    foreign = [tmp_path / f".part_00000000_1_ab_{age}" for age in ("old", "new")]
    for path in foreign:
        path.mkdir()
    os.utime(foreign[0], (0, 0))
    with start("living") as living:
        remove_leftovers(tmp_path)
        left = {path.name.split("_")[-1] for path in tmp_path.iterdir()}
        living.kill()
    assert left == {"living", "new"}


def test_the_digest_follows_the_content(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_text("same")
    b.write_text("same")
    assert content_digest(a) == content_digest(b)
    b.write_text("other")
    assert content_digest(a) != content_digest(b)


def test_files_below_a_folder_are_found_through_links_and_sorted(tmp_path: Path) -> None:
    for name in ("root/b/2.txt", "root/a/1.txt", "root/a.txt", "store/deep/3.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    root = tmp_path / "root"
    assert files_below(root) == sorted(path for path in root.rglob("*") if path.is_file())
    (root / "linked").symlink_to("../store")
    (root / "a/again").symlink_to(tmp_path / "store/deep")
    (root / "file.txt").symlink_to(tmp_path / "store/deep/3.txt")
    (root / "broken").symlink_to(tmp_path / "nowhere")
    names = [path.relative_to(root).as_posix() for path in files_below(root)]
    assert names == ["a/1.txt", "a/again/3.txt", "a.txt", "b/2.txt", "file.txt",
                     "linked/deep/3.txt"]  # fmt: skip


@pytest.mark.parametrize("target", [".", "..", "../..", "/", "loop"])
def test_links_to_a_folder_above_are_not_followed(tmp_path: Path, target: str) -> None:
    folder = tmp_path / "above/root/sub"
    folder.mkdir(parents=True)
    (folder / "1.txt").touch()
    (tmp_path / "above/2.txt").touch()
    (folder / "loop").symlink_to(target)
    assert files_below(tmp_path / "above/root") == [folder / "1.txt"]


def test_the_working_folder_is_searched_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/1.txt").touch()
    monkeypatch.chdir(tmp_path)
    assert files_below(Path()) == [Path("a/b/1.txt")]


def test_links_between_two_folders_end(tmp_path: Path) -> None:
    for one, other in ("ab", "ba"):
        (tmp_path / one).mkdir()
        (tmp_path / one / f"{one}.txt").touch()
        (tmp_path / one / "to").symlink_to(tmp_path / other)
    names = [path.relative_to(tmp_path).as_posix() for path in files_below(tmp_path)]
    assert names == ["a/a.txt", "a/to/b.txt", "b/b.txt", "b/to/a.txt"]


def test_a_file_that_is_too_large_for_the_disk_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"(?s)x: cannot be written, it is too large.*MiB free"):
        with atomic_write(tmp_path / "x"):
            raise OSError(errno.EFBIG, "File too large")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"[" * 100_000, b"\xff", b"{", b'{"a": ' + b"9" * 5000 + b"}"])
def test_what_is_wrong_with_json_is_one_kind_of_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf[1]")
    assert load_json(path) == [1]
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"."):
        load_json(path)


def test_an_error_is_the_systems_unless_the_content_led_to_it() -> None:
    assert is_system_error(PermissionError(errno.EACCES, "x"))
    assert is_system_error(OSError(errno.EIO, "x"))
    assert not is_system_error(OSError(errno.EINVAL, "seek before the start"))
    assert not is_system_error(OSError("Expected 8 bytes, got 7"))
    assert not is_system_error(ValueError("x"))
