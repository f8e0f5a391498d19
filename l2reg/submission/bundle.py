"""Submission zips: write the fields of a task as the organisers want them, and read them back."""

import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from l2reg.config.presets import CHALLENGE_TASKS
from l2reg.data.pairs import Pair
from l2reg.data.task import Task
from l2reg.io.files import atomic_write
from l2reg.io.zips import open_zip, read_member
from l2reg.problems import InputError, Problem
from l2reg.submission.numbering import OFFICIAL, choose_release, pair_names
from l2reg.submission.records import NOTES, TIMINGS, read_notes, read_timings
from l2reg.submission.rules import Rules
from l2reg.wording import quantity

TOP = "submission"
TASK_FOLDERS = tuple(f"task_{number:02}" for number, _ in enumerate(CHALLENGE_TASKS, start=1))
DUMMY = "dummy.txt"  # without a second entry at the top, the platform strips one folder too many
_DUMMY_TEXT = "dummy file\n"
_REMEDY = "give the path of the task_0T.zip or the submission folder that l2reg predict wrote"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # time of every member: the same fields give the same bytes
_FIELD = re.compile(r"disp_(\d{4})(?:_\d{4})?_(\d{4})(?:_\d{4})?(\.npz|\.nii\.gz)")


def write_bundle(submission: Path, task_folder: str, zip_path: Path) -> None:
    """Zip the half-resolution fields of a task and a dummy file below one folder ``submission/``.

    Args:
        submission: Folder that holds ``task_folder``; the dummy file is written into it.
        task_folder: Name of the task's folder, such as ``task_02``.
        zip_path: Path of the zip, which is written whole or not at all.
    """
    (submission / DUMMY).write_text(_DUMMY_TEXT, encoding="utf-8")
    members = [submission / DUMMY, *sorted((submission / task_folder).glob("disp_*.npz"))]
    _write_zip(
        zip_path,
        ((f"{TOP}/{m.relative_to(submission).as_posix()}", m.read_bytes()) for m in members),
    )


def write_full_bundle(submission: Path, zip_path: Path) -> None:
    """Zip ``submission/disp_*.nii.gz`` in the form of the current rules: without any folder."""
    members = sorted(submission.glob("disp_*.nii.gz"))
    _write_zip(zip_path, ((member.name, member.read_bytes()) for member in members))


def join_bundles(sources: Sequence[Path], zip_path: Path) -> dict[str, int]:
    """Zip the 2021 fields of several tasks as one submission.

    Args:
        sources: Zips or folders, each with the fields of one task or several.
        zip_path: Path of the zip, which is written whole or not at all.

    Returns:
        The number of fields of each task folder.

    Raises:
        InputError: If a source cannot be opened or holds no field, or if two sources hold the same
            task.
    """
    submissions: dict[str, Submission] = {}
    for source in sources:
        names = _list_names(source, "a zip or folder with task_0T/disp_FFFF_MMMM.npz inside")
        tasks = {folder: _fields_by_ids(source.name, names, folder) for folder in TASK_FOLDERS}
        tasks = {folder: members for folder, members in tasks.items() if members}
        if not tasks:
            raise InputError(_no_field(source, "task_0T", names))
        if duplicates := sorted(set(tasks) & set(submissions)):
            folder = duplicates[0]
            raise InputError(_duplicate_task(source, submissions[folder].path, folder))
        submissions |= {folder: Submission(source, members) for folder, members in tasks.items()}
    _write_zip(zip_path, _zip_members(submissions))
    return {folder: len(submissions[folder].members) for folder in sorted(submissions)}


def _zip_members(submissions: Mapping[str, "Submission"]) -> Iterator[tuple[str, bytes]]:
    """Yield the path in the zip and the bytes of the dummy file and of every task's fields."""
    yield f"{TOP}/{DUMMY}", _DUMMY_TEXT.encode()
    for folder, submission in sorted(submissions.items()):
        for member in sorted(submission.members.values()):
            yield f"{TOP}/{folder}/{PurePosixPath(member).name}", submission.read(member)


def _write_zip(zip_path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    with atomic_write(zip_path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name, date_time=_EPOCH)
            is_compressed = name.endswith(".gz")
            info.compress_type = zipfile.ZIP_STORED if is_compressed else zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, content)


@dataclass(frozen=True)
class Submission:
    """The submitted fields of one task, in a zip or in a folder.

    Attributes:
        path: Path of the zip or folder.
        members: Path of every field inside the zip or folder, by its ids: ``0438_0439``.
        ids: Ids in the name of each scored pair's field, by the name of the pair. They are those of
            one release for all pairs.
        release: Release whose ids they are.
        expected: Release whose ids the organisers look for.
    """

    path: Path
    members: Mapping[str, str]
    ids: Mapping[str, str] = field(default_factory=dict)
    release: str = OFFICIAL
    expected: str = OFFICIAL

    def member(self, pair: Pair) -> str | None:
        """Return the path of a pair's field inside the zip or folder, ``None`` if it is missing."""
        return self.members.get(self.ids[pair.name])

    def missing(self, pairs: Iterable[Pair]) -> list[str]:
        """Return the names of the pairs whose fields are missing."""
        return [pair.name for pair in pairs if self.member(pair) is None]

    def content(self, pair: Pair) -> bytes:
        """Return the bytes of a pair's field, which must not be missing."""
        return self.read(str(self.member(pair)))

    def read(self, member: str) -> bytes:
        """Return the bytes of one of ``members``.

        Raises:
            InputError: If the member is damaged.
        """
        if self.path.is_dir():
            return (self.path / member).read_bytes()
        try:
            with open_zip(self.path) as archive:
                return read_member(archive, member)
        except (OSError, zipfile.BadZipFile) as error:
            raise InputError(_damage(self.path, member, error)) from error

    def seconds(self) -> dict[str, float]:
        """Return the runtimes in seconds by pair, from ``timings.csv`` in or beside ``path``.

        Without this file the result is empty.

        Raises:
            InputError: If the file is not a table of runtimes.
        """
        path = self._beside(TIMINGS)
        return {} if path is None else read_timings(path)

    def notes(self) -> list[str]:
        """Return notes on the scores, from ``score_notes.txt`` in or beside ``path``.

        Ids of another release than the organisers look for are noted as well.
        """
        path = self._beside(NOTES)
        lines = [] if path is None else read_notes(path)
        if self.release != self.expected:
            lines.append(
                f"the fields have the ids of the release {self.release}; the organisers look for "
                f"those of {self.expected}"
            )
        return lines

    def _beside(self, name: str) -> Path | None:
        paths = (folder / name for folder in (self.path, self.path.parent))
        return next((path for path in paths if path.is_file()), None)


def open_submission(path: Path, task: Task, pairs: Sequence[Pair], rules: Rules) -> Submission:
    """Open a submission: a zip, or a folder with the fields at any depth.

    Under the rules of 2021 a field is ``task_0T/disp_FFFF_MMMM.npz``. Under the current rules it is
    ``disp_FFFF_MMMM.nii.gz`` or the long ``disp_FFFF_ffff_MMMM_mmmm.nii.gz`` in any folder; a
    ``.npz`` file of the same ids takes precedence over both. The ids are those of 2021 or of the
    current release, for all fields alike.

    Args:
        path: Path of the zip or folder.
        task: Task of the fields. Those of half resolution lie in its folder, such as ``task_02``;
            ``path`` may be this folder itself.
        pairs: Pairs that are scored.
        rules: Rules that the submission follows.

    Raises:
        InputError: If the file is missing, is not a zip, or holds no field, or if its ids fit both
            releases.
    """
    full = rules.full_resolution
    ending = "disp_FFFF_MMMM.nii.gz" if full else f"{task.folder}/disp_FFFF_MMMM.npz"
    files = _list_names(path, f"a zip or folder with {ending} inside")
    members = _fields_by_ids(path.name, files, None if full else task.folder)
    if not members:
        raise InputError(_no_field(path, ending if full else task.folder, files))
    names = pair_names(pairs, task, rules)
    release = choose_release(members, names, task, str(path))
    ids = zip((pair.name for pair in pairs), names.by_release[release], strict=True)
    return Submission(path, members, dict(ids), release, names.expected)


def _list_names(path: Path, expected: str) -> list[str]:
    """Return the names of all members of a zip, or of the ``disp_*`` files of a folder.

    Raises:
        InputError: If the file is missing or is not a zip.
    """
    if path.is_dir():
        return [file.relative_to(path).as_posix() for file in sorted(path.rglob("disp_*"))]
    try:
        with open_zip(path) as archive:
            return archive.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        found = "no such file" if not path.exists() else f"not a zip: {error}"
        problem = Problem(
            where=str(path),
            what="cannot be opened",
            expected=expected,
            found=found,
            remedy=_REMEDY,
        )
        raise InputError(problem) from error


def missing_fields(submission: Submission, pairs: Sequence[Pair]) -> Problem:
    """Return the problem of a submission that lacks fields, which names every missing field."""
    missing = submission.missing(pairs)
    return Problem(
        where=str(submission.path),
        what="lacks fields; the organisers refuse it as a whole",
        expected=quantity(len(pairs), "field"),
        found=f"{len(missing)} missing: "
        + ", ".join(f"disp_{submission.ids[name]}" for name in missing),
        remedy="predict the missing pairs, score another list with data.pairs=FILE, or score the "
        "rest with allow_missing=true",
    )


def _no_field(path: Path, task_folder: str, names: Sequence[str]) -> Problem:
    return Problem(
        where=str(path),
        what="holds no field",
        expected=f"fields of {task_folder}",
        found=f"{quantity(len(names), 'file')}, none of them a field of {task_folder}",
        remedy=_REMEDY,
    )


def _damage(path: Path, member: str, error: Exception) -> Problem:
    return Problem(
        where=f"{path}: {member}",
        what="is damaged",
        expected="intact bytes",
        found=str(error),
        remedy="zip it again",
    )


def _duplicate_task(path: Path, other: Path, task_folder: str) -> Problem:
    return Problem(
        where=str(path),
        what=f"holds {task_folder}, which another source holds too",
        expected="each task in one source",
        found=f"{task_folder} in {other} and in {path}",
        remedy="leave out one of these sources",
    )


def _fields_by_ids(top: str, names: Sequence[str], task_folder: str | None) -> dict[str, str]:
    """Return the fields among ``names`` by their ids; of two with the same ids the npz file.

    Args:
        top: Name of the zip or folder that holds them.
        names: Paths inside the zip or folder.
        task_folder: Folder that the fields have to lie in, as npz files; ``None`` for any.
    """
    members = {}
    for name in sorted(names, key=lambda name: name.endswith(".npz")):  # npz files last
        *folders, file = (top, *PurePosixPath(name).parts)
        match = _FIELD.fullmatch(file)
        if match is None:
            continue
        fixed, moving, suffix = match.groups()
        if task_folder is None or (folders[-1] == task_folder and suffix == ".npz"):
            members[f"{fixed}_{moving}"] = name
    return members
