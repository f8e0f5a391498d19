import errno
import os
from pathlib import Path

import pytest

from l2reg.io.files import atomic_write, content_digest, ensure_writable, prepare_output_folder
from l2reg.problems import InputError


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


def test_other_disk_errors_are_left_alone(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="strange"), atomic_write(tmp_path / "x"):
        raise OSError(errno.EIO, "strange")


def test_a_new_or_empty_folder_can_be_used(tmp_path: Path) -> None:
    prepare_output_folder(tmp_path / "new", marker="config.yaml", overwrite=False)
    prepare_output_folder(tmp_path, marker="config.yaml", overwrite=False)
    assert tmp_path.exists()


def test_an_existing_folder_asks_for_overwrite(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text("x")
    with pytest.raises(InputError, match="overwrite=true"):
        prepare_output_folder(folder, marker="config.yaml", overwrite=False)
    prepare_output_folder(folder, marker="config.yaml", overwrite=True)
    assert not folder.exists()


def test_a_folder_without_the_marker_is_never_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "holiday"
    folder.mkdir()
    (folder / "photo.jpg").write_text("x")
    with pytest.raises(InputError, match=r"without a config\.yaml") as error:
        prepare_output_folder(folder, marker="config.yaml", overwrite=True)
    assert "overwrite=true" not in str(error.value)
    assert (folder / "photo.jpg").exists()


def test_the_digest_follows_the_content(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_text("same")
    b.write_text("same")
    assert content_digest(a) == content_digest(b)
    b.write_text("other")
    assert content_digest(a) != content_digest(b)
