"""Zip a task's fields as the organisers want them, and open such a zip again as they do."""

import csv
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from l2reg.data.pairs import Pair
from l2reg.io.files import atomic_write
from l2reg.problems import InputError, Problem
from l2reg.submission.fields import file_name
from l2reg.submission.rules import Rules

TOP = "submission"
TIMINGS = "timings.csv"
TASK_FOLDERS = ("task_01", "task_02", "task_03")
DUMMY = "dummy.txt"  # without a second entry at the top, the platform strips one folder too many
_DUMMY_TEXT = "dummy file\n"
_NAME_OURS = "name the task_0T.zip or the submission folder that predict.py wrote"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same fields give the same bytes
_FIELD = re.compile(r"disp_(\d{4})(?:_\d{4})?_(\d{4})(?:_\d{4})?(\.npz|\.nii\.gz)")


def write_bundle(submission: Path, task_folder: str, zip_path: Path) -> None:
    """Zip ``submission/task_0T/*.npz`` and a dummy file, all below one folder ``submission/``.

    Args:
        submission: Folder that holds ``task_folder``; the dummy file is written into it.
        task_folder: Such as ``task_02``.
        zip_path: Where to write; whole or not at all.
    """
    (submission / DUMMY).write_text(_DUMMY_TEXT, encoding="utf-8")
    members = [submission / DUMMY, *sorted((submission / task_folder).glob("disp_*.npz"))]
    _write_zip(
        zip_path,
        ((f"{TOP}/{m.relative_to(submission).as_posix()}", m.read_bytes()) for m in members),
    )


def write_full_bundle(submission: Path, zip_path: Path) -> None:
    """Zip ``submission/disp_*.nii.gz`` as the current rules want them: without any folder."""
    members = sorted(submission.glob("disp_*.nii.gz"))
    _write_zip(zip_path, ((member.name, member.read_bytes()) for member in members))


def join_bundles(sources: Sequence[Path], zip_path: Path) -> dict[str, int]:
    """Zip the 2021 fields of several tasks as one submission.

    Args:
        sources: Zips or folders, of one task or several.
        zip_path: Where to write; whole or not at all.

    Returns:
        The number of fields of each task folder.

    Raises:
        InputError: If a source cannot be opened or holds no field, or two hold the same task.
    """
    found: dict[str, Submission] = {}
    for source in sources:
        names = _names_in(source, "a zip or folder with task_0T/disp_FFFF_MMMM.npz inside")
        held = {folder: _fields(source.name, names, folder) for folder in TASK_FOLDERS}
        held = {folder: members for folder, members in held.items() if members}
        if not held:
            raise InputError(_no_field(source, "task_0T", names))
        if twice := sorted(set(held) & set(found)):
            raise InputError(_held_twice(source, found[twice[0]].path, twice[0]))
        found |= {folder: Submission(source, members) for folder, members in held.items()}
    _write_zip(zip_path, _joined(found))
    return {folder: len(found[folder].members) for folder in sorted(found)}


def _joined(found: Mapping[str, "Submission"]) -> Iterator[tuple[str, bytes]]:
    yield f"{TOP}/{DUMMY}", _DUMMY_TEXT.encode()
    for folder, submission in sorted(found.items()):
        for member in sorted(submission.members.values()):
            yield f"{TOP}/{folder}/{PurePosixPath(member).name}", submission.read(member)


def _write_zip(zip_path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    with atomic_write(zip_path) as draft, zipfile.ZipFile(draft, "w") as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name, date_time=_EPOCH)
            stored = name.endswith(".gz")  # compressed already
            info.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, content)


@dataclass(frozen=True)
class Submission:
    """Submitted fields of one task, in a zip or in a folder.

    Attributes:
        path: The zip or folder.
        members: Path inside of it of every field, by ids: ``0438_0439``.
    """

    path: Path
    members: dict[str, str]

    def member(self, pair: Pair) -> str | None:
        """Return the path of a pair's field, named by the ids of its layout or by those of 2021."""
        return self.members.get(pair.name_in_layout, self.members.get(pair.name))

    def missing(self, pairs: Iterable[Pair]) -> list[str]:
        """Return the names of the pairs whose fields are not there."""
        return [pair.name for pair in pairs if self.member(pair) is None]

    def content(self, pair: Pair) -> bytes:
        """Return the bytes of a pair's field, which is there."""
        return self.read(str(self.member(pair)))

    def read(self, member: str) -> bytes:
        """Return the bytes of one of ``members``."""
        if self.path.is_dir():
            return (self.path / member).read_bytes()
        with zipfile.ZipFile(self.path) as archive:
            return archive.read(member)

    def seconds(self) -> dict[str, float]:
        """Return the runtime of each pair by name, if ``timings.csv`` lies in or beside it."""
        for folder in (self.path, self.path.parent):
            path = folder / TIMINGS
            if path.is_file():
                with path.open(newline="", encoding="utf-8") as file:
                    return {row["pair"]: float(row["seconds"]) for row in csv.DictReader(file)}
        return {}


def write_timings(folder: Path, seconds: Mapping[str, float]) -> None:
    """Write the runtime of each pair beside a submission, where ``Submission.seconds`` finds it."""
    path = folder / TIMINGS
    with atomic_write(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["pair", "seconds"])
        writer.writerows((pair, f"{value:.4f}") for pair, value in seconds.items())


def open_submission(path: Path, task_folder: str, rules: Rules) -> Submission:
    """Open a zip, or a folder that holds the fields somewhere.

    Args:
        path: The zip or folder.
        task_folder: Where fields of half resolution lie: ``task_02``; or ``path`` is that folder.
        rules: 2021; or current: ``disp_FFFF_MMMM.nii.gz`` or the
            long ``disp_FFFF_ffff_MMMM_mmmm.nii.gz`` in any folder; ``.npz`` wins over both.

    Raises:
        InputError: If there is no such file, it is no zip, or it holds no field.
    """
    full = rules.full_resolution
    ending = "disp_FFFF_MMMM.nii.gz" if full else f"{task_folder}/disp_FFFF_MMMM.npz"
    names = _names_in(path, f"a zip or folder with {ending} inside")
    members = _fields(path.name, names, None if full else task_folder)
    if not members:
        raise InputError(_no_field(path, ending if full else task_folder, names))
    return Submission(path, members)


def _names_in(path: Path, expected: str) -> list[str]:
    """Return what a zip holds, or the fields a folder holds.

    Raises:
        InputError: If there is no such file, or it is no zip.
    """
    if path.is_dir():
        return [found.relative_to(path).as_posix() for found in sorted(path.rglob("disp_*"))]
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        found = "no such file" if not path.exists() else f"not a zip: {error}"
        problem = Problem(
            where=str(path),
            what="cannot be opened",
            expected=expected,
            found=found,
            remedy=_NAME_OURS,
        )
        raise InputError(problem) from error


def missing_fields(submission: Submission, pairs: Sequence[Pair]) -> Problem:
    """Return the organisers' refusal of a submission that lacks fields; all are named."""
    missing = submission.missing(pairs)
    return Problem(
        where=str(submission.path),
        what="lacks fields; the organisers refuse it as a whole",
        expected=f"{len(pairs)} fields",
        found=f"{len(missing)} missing: {', '.join(map(file_name, missing))}",
        remedy="predict the missing pairs, score another list with data.pairs=FILE, or score the "
        "rest with allow_missing=true",
    )


def _no_field(path: Path, wanted: str, names: Sequence[str]) -> Problem:
    return Problem(
        where=str(path),
        what="holds no field",
        expected=f"fields of {wanted}",
        found=f"{len(names)} files, none of them a field of {wanted}",
        remedy=_NAME_OURS,
    )


def _held_twice(path: Path, other: Path, task_folder: str) -> Problem:
    return Problem(
        where=str(path),
        what=f"holds {task_folder}, which another one holds too",
        expected="each task once",
        found=f"{task_folder} in {other} and in {path}",
        remedy="leave one of them out",
    )


def _fields(top: str, names: Sequence[str], task_folder: str | None) -> dict[str, str]:
    """Return the fields among ``names`` by their ids; npz come last and win."""
    members = {}
    for name in sorted(names, key=lambda name: name.endswith(".npz")):
        *folders, file = (top, *PurePosixPath(name).parts)
        match = _FIELD.fullmatch(file)
        if match is None:
            continue
        fixed, moving, suffix = match.groups()
        if task_folder is None or (folders[-1] == task_folder and suffix == ".npz"):
            members[f"{fixed}_{moving}"] = name
    return members
