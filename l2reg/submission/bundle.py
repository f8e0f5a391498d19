"""Zip a task's fields as the organisers want them, and open such a zip again as they do."""

import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from l2reg.files import written_whole
from l2reg.problems import InputError, Problem
from l2reg.shapes import Shape3
from l2reg.submission.fields import HalfField, file_name, read_field

TOP = "submission"
DUMMY = "dummy.txt"  # without a second entry at the top, the platform strips one folder too many
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same fields give the same bytes


def write_bundle(submission: Path, task_folder: str, zip_path: Path) -> None:
    """Zip ``submission/task_0T/*.npz`` and a dummy file, all below one folder ``submission/``.

    Args:
        submission: Folder that holds ``task_folder``; the dummy file is written into it.
        task_folder: Such as ``task_02``.
        zip_path: Where to write; whole or not at all.
    """
    (submission / DUMMY).write_text("dummy file\n", encoding="utf-8")
    members = [submission / DUMMY, *sorted((submission / task_folder).glob("disp_*.npz"))]
    with written_whole(zip_path) as draft, zipfile.ZipFile(draft, "w") as archive:
        for path in members:
            name = f"{TOP}/{path.relative_to(submission).as_posix()}"
            info = zipfile.ZipInfo(name, date_time=_EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, path.read_bytes())


@dataclass(frozen=True)
class Submission:
    """Submitted fields of one task, in a zip or in a folder.

    Attributes:
        path: The zip or folder.
        members: Path inside of it of every field, by file name.
    """

    path: Path
    members: dict[str, str]

    def missing(self, pair_names: Iterable[str]) -> list[str]:
        """Return the file names that are not there."""
        return [name for name in map(file_name, pair_names) if name not in self.members]

    def read(self, pair_name: str, shape: Shape3) -> HalfField:
        """Return one field; raises ``InputError`` as ``fields.read_field`` does."""
        member = self.members[file_name(pair_name)]
        if self.path.is_dir():
            content = (self.path / member).read_bytes()
        else:
            with zipfile.ZipFile(self.path) as archive:
                content = archive.read(member)
        return read_field(content, f"{self.path}: {member}", shape)


def open_submission(path: Path, task_folder: str) -> Submission:
    """Open a zip, or a folder that holds ``task_0T`` somewhere, or that folder itself.

    Raises:
        InputError: If there is no such file, it is no zip, or it holds no field of the task.
    """
    expected = f"a zip or folder with {task_folder}/disp_FFFF_MMMM.npz inside"
    remedy = "name the task_0T.zip or the submission folder that predict.py wrote"
    if path.is_dir():
        names = [found.relative_to(path).as_posix() for found in sorted(path.rglob("disp_*.npz"))]
    else:
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except (OSError, zipfile.BadZipFile) as error:
            found = "no such file" if not path.exists() else f"not a zip: {error}"
            problem = Problem(str(path), "cannot be opened", expected, found, remedy)
            raise InputError(problem) from error
    members = {
        PurePosixPath(name).name: name
        for name in names
        if _is_field_of(task_folder, (path.name, *PurePosixPath(name).parts))
    }
    if not members:
        found = f"{len(names)} files, none of them a field of {task_folder}"
        raise InputError(Problem(str(path), "holds no field", expected, found, remedy))
    return Submission(path, members)


def _is_field_of(task_folder: str, parts: tuple[str, ...]) -> bool:
    return parts[-2] == task_folder and parts[-1].startswith("disp_") and parts[-1][-4:] == ".npz"
