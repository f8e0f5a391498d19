"""Output folders: marked as written by l2reg, held by one process, and deleted with care."""

import fcntl
import os
import shutil
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

from tqdm import tqdm

from l2reg.io.files import make_folder, raise_if_disk_is_at_fault
from l2reg.problems import InputError, Problem

_N_NAMED = 5  # files that a message names
_HELD: dict[Path, int] = {}  # file descriptors of the markers of this process


class OutputKind(StrEnum):
    """Kind of an output folder, by the name of the empty file that marks it.

    Nothing but l2reg writes these files: a folder without the file of its kind has another origin
    and is never deleted.
    """

    RUN = ".l2reg_run"
    PREDICTION = ".l2reg_prediction"
    EVALUATION = ".l2reg_evaluation"
    PHANTOM = ".l2reg_phantom"


def claim_output_folder(
    path: Path, kind: OutputKind, *, overwrite: bool, inputs: Iterable[Path] = ()
) -> None:
    """Create an output folder, or empty one of the same kind, and hold it for this process.

    Until the process ends, no other process gets the folder. What is deleted is printed first.

    Args:
        path: Output folder.
        kind: Kind of the output.
        overwrite: Whether to delete what is in the folder, if it has the marker of its kind.
        inputs: Files and folders that are read. A folder that is one of them, or the working
            folder, or lies above one, is never deleted.

    Raises:
        InputError: If the folder exists and must not be deleted, if another process writes to it,
            or if it cannot be written to.
    """
    if contents := _contents(path, kind):
        _check_deletion(path, kind, contents, overwrite=overwrite, inputs=inputs)
    hold_output_folder(path, kind)
    contents = _contents(path, kind)
    if contents and not overwrite:  # another process was faster
        raise InputError(_exists(path, kind, contents))
    if contents:
        tqdm.write(f"overwriting {path}: deleting {_names(contents)}")
    for each in contents:
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        else:
            each.unlink()


def hold_output_folder(path: Path, kind: OutputKind) -> None:
    """Create an output folder with its marker if need be, and hold it until this process ends.

    Raises:
        InputError: If another process holds the folder, or if it cannot be written to.
    """
    real = path.resolve()
    if real in _HELD:
        os.close(_HELD.pop(real))
    make_folder(path)
    try:
        descriptor = os.open(path / kind, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise_if_disk_is_at_fault(error, path)
        raise
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise InputError(
            Problem(
                where=str(path),
                what="is being written by another process",
                expected="an output folder of its own for every process",
                found="a process that still runs",
                remedy="wait until it has ended, or choose another folder (run_dir=..., out=...)",
            )
        ) from error
    except OSError:  # a file system without locks: the folder is not held
        pass
    _HELD[real] = descriptor


def is_held(path: Path, kind: OutputKind) -> bool:
    """Return whether a process that still runs holds an output folder; nothing is written."""
    try:
        descriptor = os.open(path / kind, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(descriptor)
    return False


def _contents(path: Path, kind: OutputKind) -> list[Path]:
    """Return what a folder holds beside its marker, sorted; nothing if it does not exist.

    Raises:
        InputError: If the path is a file, or the folder must not be read.
    """
    try:
        return sorted(set(path.iterdir()) - {path / kind}) if path.exists() else []
    except OSError as error:
        raise_if_disk_is_at_fault(error, path)
        raise


def _check_deletion(
    path: Path,
    kind: OutputKind,
    contents: list[Path],
    *,
    overwrite: bool,
    inputs: Iterable[Path],
) -> None:
    """Raise an ``InputError`` unless the contents of a folder may be deleted."""
    if not (overwrite and (path / kind).is_file()):
        raise InputError(_exists(path, kind, contents))
    for needed in (Path.cwd(), *inputs):
        for place in (needed.absolute(), needed.resolve()):
            if place.is_relative_to(path.resolve()) or place.is_relative_to(path.absolute()):
                raise InputError(
                    Problem(
                        where=str(path),
                        what="is not deleted: it is needed",
                        expected="an output folder without inputs and the working folder",
                        found=f"{needed} is this folder or lies in it",
                        remedy="choose another folder (run_dir=..., out=...)",
                    )
                )


def _exists(path: Path, kind: OutputKind, contents: list[Path]) -> Problem:
    has_marker = (path / kind).is_file()
    remedy = "choose another folder (run_dir=..., out=...)"
    if has_marker:
        remedy += ", or overwrite=true to delete this one"
    elif not any((path / other).is_file() for other in OutputKind):
        remedy += ", or remove this one yourself"
    return Problem(
        where=str(path),
        what="exists" if has_marker else f"exists, and has no {kind} that l2reg writes",
        expected="a new folder",
        found=_names(contents),
        remedy=remedy,
    )


def _names(paths: list[Path]) -> str:
    """Return the names of the first files and folders, and the number of the others."""
    more = f" and {len(paths) - _N_NAMED} more" if len(paths) > _N_NAMED else ""
    return ", ".join(path.name for path in paths[:_N_NAMED]) + more
