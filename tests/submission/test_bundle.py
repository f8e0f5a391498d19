import zipfile
from pathlib import Path

import numpy as np
import pytest

from l2reg.problems import InputError
from l2reg.submission.bundle import open_submission, write_bundle
from l2reg.submission.fields import write_field

SHAPE = (8, 6, 10)


def field(value: float) -> np.ndarray:
    return np.full((3, 4, 3, 5), value, np.float16)


@pytest.fixture
def submission(tmp_path: Path) -> Path:
    folder = tmp_path / "out/submission"
    write_field(folder / "task_02", "0001_0001", field(1))
    write_field(folder / "task_02", "0002_0002", field(2))
    return folder


def test_the_zip_has_the_organisers_tree(submission: Path, tmp_path: Path) -> None:
    write_bundle(submission, "task_02", tmp_path / "task_02.zip")
    with zipfile.ZipFile(tmp_path / "task_02.zip") as archive:
        assert archive.namelist() == [
            "submission/dummy.txt",
            "submission/task_02/disp_0001_0001.npz",
            "submission/task_02/disp_0002_0002.npz",
        ]
        assert archive.testzip() is None


def test_the_same_fields_give_the_same_bytes(submission: Path, tmp_path: Path) -> None:
    for name in ("a.zip", "b.zip"):
        write_bundle(submission, "task_02", tmp_path / name)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


@pytest.mark.parametrize(
    "where", ["task_02.zip", "out/submission", "out", "out/submission/task_02"]
)
def test_a_zip_and_any_folder_around_the_fields_can_be_opened(
    submission: Path, tmp_path: Path, where: str
) -> None:
    write_bundle(submission, "task_02", tmp_path / "task_02.zip")
    opened = open_submission(tmp_path / where, "task_02")
    assert opened.missing(["0001_0001", "0002_0002", "0003_0003"]) == ["disp_0003_0003.npz"]
    np.testing.assert_array_equal(opened.read("0002_0002", SHAPE), field(2))


@pytest.mark.parametrize(
    ("where", "words"),
    [("none.zip", "no such file"), ("text.zip", "not a zip"), ("empty", "0 files"),
     ("out", "none of them a field of task_03")],
)  # fmt: skip
def test_what_holds_no_field_of_the_task_is_refused(
    submission: Path, tmp_path: Path, where: str, words: str
) -> None:
    (tmp_path / "text.zip").write_text("x")
    (tmp_path / "empty").mkdir()
    task = "task_03" if where == "out" else "task_02"
    with pytest.raises(InputError, match=words) as error:
        open_submission(tmp_path / where, task)
    assert "remedy" in str(error.value)


def test_a_spoilt_field_is_named_with_its_zip(submission: Path, tmp_path: Path) -> None:
    write_field(submission / "task_02", "0001_0001", field(np.inf))
    write_bundle(submission, "task_02", tmp_path / "task_02.zip")
    opened = open_submission(tmp_path / "task_02.zip", "task_02")
    with pytest.raises(InputError, match=r"task_02\.zip: submission/task_02/disp_0001_0001\.npz"):
        opened.read("0001_0001", SHAPE)


@pytest.mark.parametrize("what", ["zip", "field"])
def test_a_full_disk_is_said_as_such_and_leaves_nothing_half(
    submission: Path, tmp_path: Path, what: str
) -> None:
    """Drafts are sent to a device that is always full."""
    zip_path, folder = tmp_path / "task_02.zip", submission / "task_02"
    (tmp_path / ".part_task_02.zip").symlink_to("/dev/full")
    (folder / ".part_disp_0009_0009.npz").symlink_to("/dev/full")
    big = np.ones((3, 40, 40, 40), np.float16)
    with pytest.raises(InputError, match="the disk is full"):
        if what == "zip":
            write_field(folder, "0003_0003", big)
            write_bundle(submission, "task_02", zip_path)
        else:
            write_field(folder, "0009_0009", big)
    assert not zip_path.exists()
    assert not (folder / "disp_0009_0009.npz").exists()
