import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from l2reg.config.build import build
from l2reg.config.presets import CHALLENGE_TASKS, load_preset
from l2reg.data.pairs import Pair, Scan
from l2reg.data.task import Task
from l2reg.problems import InputError
from l2reg.submission.bundle import (
    TASK_FOLDERS,
    join_bundles,
    missing_fields,
    open_submission,
    write_bundle,
    write_full_bundle,
)
from l2reg.submission.fields import read_field, write_field
from l2reg.submission.records import write_notes, write_timings
from l2reg.submission.rules import RULES

SHAPE = (8, 6, 10)
LUNG: Task = build(load_preset("task", "lung"))
OASIS: Task = build(load_preset("task", "oasis"))


def field(value: float) -> np.ndarray:
    return np.full((3, 4, 3, 5), value, np.float16)


def pair(number: int) -> Pair:
    scan = Scan(id=number, official_id=number, modality="CT", image=Path("x"), labels=None,
                mask=None)  # fmt: skip
    return Pair(fixed=scan, moving=scan)


def pair_of(fixed: int, moving: int) -> Pair:
    return Pair(fixed=pair(fixed).fixed, moving=pair(moving).fixed)


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
    pairs = [pair(1), pair(2), pair(3)]
    opened = open_submission(tmp_path / where, LUNG, pairs, RULES["2021"])
    assert set(opened.members) == {"0001_0001", "0002_0002"}
    assert opened.missing(pairs) == ["0003_0003"]
    np.testing.assert_array_equal(read_field(opened.content(pair(2)), "x", SHAPE), field(2))


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
    task = OASIS if where == "out" else LUNG
    with pytest.raises(InputError, match=words) as error:
        open_submission(tmp_path / where, task, [pair(1)], RULES["2021"])
    assert "remedy" in str(error.value)


def test_a_field_is_found_by_the_ids_of_its_release_or_those_of_2021(tmp_path: Path) -> None:
    renumbered = replace(pair(438), fixed=replace(pair(438).fixed, id=395))
    renumbered = replace(renumbered, moving=replace(pair(439).moving, id=396))
    assert (renumbered.name, renumbered.name_in_layout) == ("0438_0439", "0395_0396")
    for folder, name in (("old", renumbered.name), ("new", renumbered.name_in_layout)):
        write_field(tmp_path / folder / "task_03", name, field(1))
        opened = open_submission(tmp_path / folder, OASIS, [renumbered], RULES["2021"])
        assert opened.member(renumbered) == f"task_03/disp_{name}.npz"
        assert opened.missing([renumbered]) == []


@pytest.mark.parametrize(
    "name",
    ["disp_0001_0001.nii.gz", "LungCT/disp_0001_0000_0001_0001.nii.gz", "disp_0001_0001.npz"],
)
def test_full_fields_may_lie_anywhere_under_short_and_long_names(tmp_path: Path, name: str) -> None:
    (tmp_path / "a" / name).parent.mkdir(parents=True)
    (tmp_path / "a" / name).write_bytes(b"x")
    opened = open_submission(tmp_path / "a", LUNG, [pair(1)], RULES["current"])
    assert opened.members == {"0001_0001": name}


def test_of_two_forms_of_one_full_field_npz_wins(tmp_path: Path) -> None:
    for name in ("disp_0001_0001.npz", "disp_0001_0001.nii.gz"):
        (tmp_path / name).write_bytes(b"x")
    opened = open_submission(tmp_path, LUNG, [pair(1)], RULES["current"])
    assert opened.members == {"0001_0001": "disp_0001_0001.npz"}
    with pytest.raises(InputError, match="none of them a field of task_02"):
        open_submission(tmp_path, LUNG, [pair(1)], RULES["2021"])


def test_all_missing_fields_are_named_with_what_to_do(submission: Path) -> None:
    pairs = [pair(1), pair(3), pair(4)]
    problem = missing_fields(open_submission(submission, LUNG, pairs, RULES["2021"]), pairs)
    assert problem.found == "2 missing: disp_0003_0003, disp_0004_0004"
    assert problem.expected == "3 fields"
    assert "allow_missing=true" in problem.remedy


def test_runtimes_lie_in_or_beside_a_submission(submission: Path, tmp_path: Path) -> None:
    opened = open_submission(submission, LUNG, [pair(1)], RULES["2021"])
    assert opened.seconds() == {}
    write_timings(submission.parent, {"0001_0001": 1.25})
    assert opened.seconds() == {"0001_0001": 1.25}
    write_timings(submission, {"0001_0001": 2.5})
    assert opened.seconds() == {"0001_0001": 2.5}


def test_notes_lie_in_or_beside_a_submission_and_unexpected_ids_are_noted(
    submission: Path, tmp_path: Path
) -> None:
    opened = open_submission(submission, LUNG, [pair(1)], RULES["2021"])
    write_notes(submission.parent, [])
    assert opened.notes() == []
    write_notes(submission.parent, ["first", "second"])
    assert opened.notes() == ["first", "second"]
    brain = pair_of(438, 439)
    for name, n_notes in (("0438_0439", 0), ("0395_0396", 1)):
        write_field(tmp_path / name / "task_03", name, field(1))
        notes = open_submission(tmp_path / name, OASIS, [brain], RULES["2021"]).notes()
        assert len(notes) == n_notes
        assert all("ids of the release current" in note for note in notes)


@pytest.mark.parametrize("what", ["zip", "field"])
def test_a_full_disk_is_reported_and_leaves_no_partial_file(
    submission: Path, tmp_path: Path, what: str, full_disk: Callable[[str], None]
) -> None:
    zip_path, folder = tmp_path / "task_02.zip", submission / "task_02"
    full_disk("task_02.zip" if what == "zip" else "disp_0009_0009.npz")
    big = np.ones((3, 40, 40, 40), np.float16)
    with pytest.raises(InputError, match="the disk is full"):
        if what == "zip":
            write_field(folder, "0003_0003", big)
            write_bundle(submission, "task_02", zip_path)
        else:
            write_field(folder, "0009_0009", big)
    assert not zip_path.exists()
    assert not (folder / "disp_0009_0009.npz").exists()


def test_the_tasks_of_zips_and_folders_become_one_submission(
    submission: Path, tmp_path: Path
) -> None:
    write_bundle(submission, "task_02", tmp_path / "task_02.zip")
    write_field(tmp_path / "brains/submission/task_03", "0438_0439", field(3))
    joined = tmp_path / "submission.zip"
    counts = join_bundles([tmp_path / "task_02.zip", tmp_path / "brains"], joined)
    assert counts == {"task_02": 2, "task_03": 1}
    with zipfile.ZipFile(joined) as archive:
        assert archive.namelist() == [
            "submission/dummy.txt",
            "submission/task_02/disp_0001_0001.npz",
            "submission/task_02/disp_0002_0002.npz",
            "submission/task_03/disp_0438_0439.npz",
        ]
    opened = open_submission(joined, OASIS, [pair_of(438, 439)], RULES["2021"])
    np.testing.assert_array_equal(read_field(opened.content(pair_of(438, 439)), "x", SHAPE),
                                  field(3))  # fmt: skip


@pytest.mark.parametrize(
    ("sources", "words"),
    [(["out", "out/submission"], "which another source holds too"), (["none.zip"], "no such file"),
     (["empty"], "none of them a field of task_0T")],
)  # fmt: skip
def test_a_task_given_twice_or_not_at_all_is_refused(
    submission: Path, tmp_path: Path, sources: list[str], words: str
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=words):
        join_bundles([tmp_path / source for source in sources], tmp_path / "submission.zip")
    assert not (tmp_path / "submission.zip").exists()


def test_the_folders_are_those_of_the_challenges_tasks_in_the_order_of_their_numbers() -> None:
    assert TASK_FOLDERS == ("task_01", "task_02", "task_03")
    for folder, task in zip(TASK_FOLDERS, CHALLENGE_TASKS, strict=True):
        assert load_preset("task", task)["layouts"]["2021"]["folder"] == folder


def test_full_fields_lie_in_no_folder(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s/disp_0001_0001.nii.gz").write_bytes(b"x")
    write_full_bundle(tmp_path / "s", tmp_path / "LungCT.zip")
    with zipfile.ZipFile(tmp_path / "LungCT.zip") as archive:
        assert archive.namelist() == ["disp_0001_0001.nii.gz"]
