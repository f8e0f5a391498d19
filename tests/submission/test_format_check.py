import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from l2reg.data.task import Task
from l2reg.problems import Problem
from l2reg.submission.format_check import CheckResult, check_submission
from l2reg.submission.numbering import PairNames, official_names
from l2reg.submission.rules import RULES

HALF = (6, 5, 7)
GRID = (12, 10, 14)
NAMES = ["0001_0001", "0002_0002"]


def npz(array: np.ndarray | None = None, **named: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, *([] if array is None else [array]), **named)
    return file.getvalue()


GOOD = npz(np.full((3, *HALF), 0.5, np.float16))


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def tree(**changes: bytes | None) -> dict[str, bytes]:
    """Return a good submission, with members replaced, added, or left out."""
    members = {
        "submission/dummy.txt": b"dummy",
        "submission/task_02/disp_0001_0001.npz": GOOD,
        "submission/task_02/disp_0002_0002.npz": GOOD,
    }
    return {name: c for name, c in (members | changes).items() if c is not None}


@pytest.fixture
def check(tmp_path: Path, tiny_task: Callable[..., Task]) -> Callable[..., CheckResult]:
    def checked(members: dict[str, bytes], names: list[str] = NAMES) -> CheckResult:
        return check_submission(
            zipped(tmp_path / "s.zip", members), tiny_task("lung"), named(names), RULES["2021"]
        )

    return checked


def named(names: list[str]) -> PairNames:
    return PairNames({"2021": names}, "2021")


def only(problems: list[Problem]) -> Problem:
    (problem,) = problems
    assert problem.remedy
    return problem


def test_a_good_submission_passes_alone_or_with_other_tasks(
    check: Callable[..., CheckResult],
) -> None:
    assert check(tree()) == CheckResult()
    other = {"submission/task_03/disp_0438_0439.npz": b"not looked at"}
    assert check(tree(**other)) == CheckResult()
    rootless = {name.removeprefix("submission/"): content for name, content in tree().items()}
    assert check(rootless) == CheckResult()


@pytest.mark.parametrize(
    ("members", "words"),
    [
        (tree(**{"submission/dummy.txt": None}), "disp_0001_0001.npz, once the platform has"),
        ({name.replace("task_02/", ""): c for name, c in tree().items()}, "place, 2 fields"),
        ({f"{name.replace('task_02', 'a/task_02')}": c for name, c in tree().items()},
         "a/task_02/disp_0001_0001.npz, once"),
    ],
)  # fmt: skip
def test_fields_that_the_evaluation_would_not_find_are_a_fault(
    check: Callable[..., CheckResult], members: dict[str, bytes], words: str
) -> None:
    fault = only(check(members).faults)
    assert words in str(fault)
    assert "l2reg bundle" in fault.remedy


FIRST = "submission/task_02/disp_0001_0001.npz"


@pytest.mark.parametrize(
    ("content", "found", "remedy"),
    [
        (npz(np.full((3, *HALF), 0.5, np.float32)), "float32", "astype(np.float16)"),
        (npz(np.full((*HALF, 3), 0.5, np.float16)), "(6, 5, 7, 3)", "np.moveaxis(field, -1, 0)"),
        (npz(np.full((3, *GRID), 0.5, np.float16)), "(3, 12, 10, 14)", "half the resolution"),
        (
            npz(np.full((3, *reversed(HALF)), 0.5, np.float16)),
            "(3, 7, 5, 6)",
            "reverse the array axes",
        ),
        (npz(np.full((3, 2, 2, 2), 0.5, np.float16)), "(3, 2, 2, 2)", "docs/conventions.md"),
        (npz(np.full((3, *HALF), np.nan, np.float16)), "630 values of NaN", "l2reg predict"),
        (npz(flow=np.full((3, *HALF), 0.5, np.float16)), "flow", "without a keyword"),
        (npz(a=np.zeros(1), b=np.zeros(1)), "2 arrays", "l2reg predict"),
        (b"not an npz", "not a zip", "l2reg predict"),
    ],
)
def test_a_field_of_another_form_is_a_fault_with_its_remedy(
    check: Callable[..., CheckResult], content: bytes, found: str, remedy: str
) -> None:
    fault = only(check(tree(**{FIRST: content})).faults)
    assert found in fault.found
    assert remedy in fault.remedy
    assert FIRST in fault.where


def test_all_faults_are_listed_at_once(check: Callable[..., CheckResult]) -> None:
    full = npz(flow=np.full((*GRID, 3), np.inf, np.float32))
    members = tree(**{
        "submission/dummy.txt": None, FIRST: full,
        "submission/task_02/disp_2_2.npz": GOOD,
        "submission/task_02/disp_0002_0002.npz": None,
    })  # fmt: skip
    faults = [fault.what for fault in check(members).faults]
    assert faults == [
        "is in the wrong place, 2 fields in all",
        "has a name that the evaluation does not look for",
        "lacks fields",
        "has the wrong shape",
        "has the wrong type",
        "stores its array under another name",
        "has values that are not numbers",
    ]


def test_missing_fields_are_named_and_swapped_ids_recognised(
    check: Callable[..., CheckResult],
) -> None:
    fault = only(check(tree(), [*NAMES, "0003_0003"]).faults)
    assert fault.found == "1 missing: 0003_0003"
    checked = check(tree(**{"submission/task_02/disp_0005_0004.npz": GOOD}), [*NAMES, "0004_0005"])
    assert "fixed id first: the zip holds 0005_0004" in only(checked.faults).remedy
    assert "not evaluated" in only(checked.warnings).what


def test_what_is_odd_but_accepted_is_a_warning(check: Callable[..., CheckResult]) -> None:
    members = tree(**{
        FIRST: npz(np.zeros((3, *HALF), np.float16)),
        "submission/task_02/disp_0002_0002.npz": npz(np.full((3, *HALF), 99, np.float16)),
        "__MACOSX/submission/._dummy.txt": b"",
    })  # fmt: skip
    checked = check(members)
    assert checked.faults == []
    assert [warning.what for warning in checked.warnings] == [
        "is hidden, 1 file in all",
        "has no displacement",
        "has displacements larger than the volume",
    ]


@pytest.mark.parametrize("content", [None, b"text", "folder"])
def test_what_is_no_zip_is_a_fault(
    tmp_path: Path, tiny_task: Callable[..., Task], content: bytes | str | None
) -> None:
    path = tmp_path / "s.zip"
    if content == "folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    assert (
        "cannot be opened"
        in only(check_submission(path, tiny_task("lung"), named(NAMES), RULES["2021"]).faults).what
    )


def test_a_member_named_twice_or_damaged_is_a_fault(
    tmp_path: Path, tiny_task: Callable[..., Task]
) -> None:
    path = zipped(tmp_path / "s.zip", tree())
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr(FIRST, GOOD)
    assert (
        "occurs 2 times"
        in only(check_submission(path, tiny_task("lung"), named(NAMES), RULES["2021"]).faults).what
    )
    path = zipped(tmp_path / "t.zip", tree())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    assert (
        only(check_submission(path, tiny_task("lung"), named(NAMES), RULES["2021"]).faults).what
        == "is damaged"
    )


def nifti(array: np.ndarray) -> bytes:
    return gzip.compress(nib.Nifti1Image(array, np.eye(4)).to_bytes())


FULL = nifti(np.full((*GRID, 3), 0.5, np.float32))


@pytest.mark.parametrize(
    ("task", "name", "content", "words"),
    [
        ("lung", "disp_0001_0001.nii.gz", FULL, ""),
        ("lung", "disp_0001_0000_0001_0001.nii.gz", FULL, ""),
        ("oasis", "disp_0001_0000_0001_0000.nii.gz", FULL, ""),
        ("oasis", "disp_0001_0001.nii.gz", FULL, "has the short name"),
        ("lung", "disp_0001_0001.nii", FULL, "does not look for"),
        ("lung", "disp_0001_0001.nii.gz", b"x", "cannot be read as .nii.gz"),
        ("lung", "disp_0001_0001.nii.gz", nifti(np.ones((3, *GRID), np.float32)), "np.moveaxis"),
    ],
)
def test_the_current_rules_have_other_names_and_forms(
    tmp_path: Path, tiny_task: Callable[..., Task], task: str, name: str, content: bytes, words: str
) -> None:
    path = zipped(tmp_path / "s.zip", {name: content})
    checked = check_submission(path, tiny_task(task), named(["0001_0001"]), RULES["current"])
    assert words in "\n".join(map(str, checked.faults))
    assert bool(words) == bool(checked.faults)


def test_fields_with_the_ids_of_another_release_are_one_fault_that_renames_them(
    tmp_path: Path, tiny_task: Callable[..., Task]
) -> None:
    task = tiny_task("abdomen")
    names = official_names(task, "test", RULES["2021"])
    folder = "submission/task_01"
    members = {f"{folder}/disp_{n:04}_{n:04}.npz": GOOD for n in range(9, 17)}
    path = zipped(tmp_path / "s.zip", {"submission/dummy.txt": b"", **members})
    fault = only(check_submission(path, task, names, RULES["2021"]).faults)
    assert "8 fields with ids of another release" in fault.what
    assert fault.found == "the ids of current"
    assert "disp_0009_0009 to disp_0001_0001" in fault.remedy
    members = {f"{folder}/disp_{n:04}_{n:04}.npz": GOOD for n in range(1, 17, 2)}
    path = zipped(tmp_path / "s.zip", {"submission/dummy.txt": b"", **members})
    assert check_submission(path, task, names, RULES["2021"]) == CheckResult()
    few = {f"{folder}/disp_{n:04}_{n:04}.npz": GOOD for n in (9, 11, 13, 15)}
    path = zipped(tmp_path / "s.zip", {"submission/dummy.txt": b"", **few})
    fault = only(check_submission(path, task, names, RULES["2021"]).faults)
    assert "fit two releases" in fault.what


def test_absolute_names_beside_others_are_faults_of_place(
    tmp_path: Path, tiny_task: Callable[..., Task]
) -> None:
    path = zipped(tmp_path / "s.zip", tree())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("/elsewhere/disp_0001_0001.npz", GOOD)
    faults = check_submission(path, tiny_task("lung"), named(NAMES), RULES["2021"]).faults
    assert any("in the wrong place" in fault.what for fault in faults)
