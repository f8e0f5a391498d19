"""Atomic file writing, strict JSON, output folders, files below a folder and content digests."""

import errno
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from l2reg.problems import InputError, Problem


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to, and rename it to ``path`` if the block succeeds.

    A crash, a full disk or an interrupt leaves the previous file unchanged and no temporary file.

    Raises:
        InputError: If there is no space left on the device, or the folder is not writable.
    """
    # The suffix stays, as some libraries choose the format by it
    temporary = path.with_name(f".part_{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise_if_disk_is_at_fault(error, path)
        raise
    finally:
        with suppress(OSError):  # such as in a folder that does not exist
            temporary.unlink(missing_ok=True)


def strict_json(value: Any, *, indent: int | None = None) -> str:
    """Return plain data as JSON that every reader takes: NaN becomes null, inf a string.

    Python alone would write ``NaN`` and ``Infinity``, which are no JSON. See ``json_number``.

    Args:
        value: Mappings, lists, tuples, strings, numbers, booleans and ``None``.
        indent: Number of spaces of a level; ``None`` for one line.
    """
    return json.dumps(_plain(value), indent=indent, allow_nan=False)


def json_number(value: float | str | None) -> float:
    """Return a number that ``strict_json`` wrote: null is nan, a string names nan or inf."""
    return math.nan if value is None else float(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def ensure_writable(path: Path) -> None:
    """Create a folder and check that files can be written to it, before a long computation.

    The check writes an empty file and removes it.

    Raises:
        InputError: If there is no space left on the device, or the folder is not writable.
    """
    with atomic_write(path / ".writable") as temporary:
        temporary.touch()
    (path / ".writable").unlink()


def raise_if_disk_is_at_fault(error: OSError, path: Path) -> None:
    """Raise an ``InputError`` that names ``path`` if the disk is full or write-protected.

    Other errors are ignored.
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        what, expected = "cannot be written, the disk is full", "free space on the disk"
        existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
        found = f"{shutil.disk_usage(existing).free / 2**20:.0f} MiB free below {existing}"
        remedy = (
            "free some space there, or choose another folder (run_dir=..., out=..., data.cache=...)"
        )
    elif error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST):
        what, expected = "cannot be written", "a folder with permission to write"
        found = error.strerror or type(error).__name__
        remedy = "choose another folder (run_dir=..., out=..., data.cache=...)"
    else:
        return
    raise InputError(
        Problem(where=str(path), what=what, expected=expected, found=found, remedy=remedy)
    ) from error


def prepare_output_folder(path: Path, *, marker: str, overwrite: bool) -> None:
    """Make sure that ``path`` is free for a new output folder: absent or empty.

    Args:
        path: Output folder; it is not created.
        marker: Name of a file that every output folder of this kind contains. A folder without it
            has another origin and is never deleted.
        overwrite: Whether to delete an existing folder with the marker.

    Raises:
        InputError: If the folder exists, is not empty and must not be deleted.
    """
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    has_marker = (path / marker).is_file()
    if not (overwrite and has_marker):
        remedy = "choose another folder"
        contents = "a folder with" if has_marker else "a file or folder without"
        raise InputError(
            Problem(
                where=str(path),
                what="exists",
                expected="a new folder",
                found=f"{contents} a {marker}",
                remedy=f"{remedy}, or overwrite=true to delete this one" if has_marker else remedy,
            )
        )
    shutil.rmtree(path)


def files_below(folder: Path) -> list[Path]:
    """Return all files in a folder and below, sorted; links to folders are followed.

    A link to a folder that contains the link, or the searched folder, is not followed. A file that
    links lead to twice is listed under both of its paths.
    """
    files: list[Path] = []
    # The real folders from the searched one down
    chains: dict[str, tuple[Path, ...]] = {str(folder): (folder.resolve(),)}
    for name, subfolders, names in os.walk(folder, followlinks=True):
        chain, current = chains.pop(name), Path(name)
        files += [current / file for file in names if (current / file).is_file()]
        below = {sub: (current / sub).resolve() for sub in subfolders}
        subfolders[:] = [
            sub for sub, real in below.items() if not any(c.is_relative_to(real) for c in chain)
        ]
        chains |= {str(current / sub): (*chain, below[sub]) for sub in subfolders}
    return sorted(files)


def content_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes; unchanged files are read once per process."""
    status = path.stat()
    return _digest(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4096)
def _digest(path: Path, _mtime_ns: int, _size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
