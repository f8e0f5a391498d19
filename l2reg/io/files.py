"""Atomic file writing, strict JSON, files below a folder and content digests."""

import errno
import hashlib
import json
import math
import os
import platform
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from l2reg.problems import InputError, Problem

_FULL = "the disk is full"
_TEMPORARY = ".part_"  # prefix of a temporary name; machine and process follow
_SECONDS_PER_DAY = 86400
_NOT_WRITABLE = (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.EISDIR)
_MAX_NAME = 180  # characters of the name of the file itself; file systems allow 255
_CLEANED: set[Path] = set()


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to, and rename it to ``path`` if the block succeeds.

    A crash, a full disk or an interrupt leaves the previous file unchanged and no temporary file.
    Every call has a temporary file of its own, so that several processes may write the same file:
    it is always that of one of them, whole. It is on the disk before it gets its name. What a
    killed process left in the folder is removed.

    Raises:
        InputError: If there is no space left on the device, or the folder is not writable.
    """
    temporary = temporary_path(path)
    try:
        make_folder(path.parent)
        remove_leftovers(path.parent)
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        with suppress(OSError):  # some file systems cannot
            _sync(path.parent)
    except OSError as error:
        raise_if_disk_is_at_fault(error, path)
        raise
    finally:
        with suppress(OSError):  # such as in a folder that does not exist
            temporary.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Create a folder and those above it, if they do not exist.

    Raises:
        InputError: If this is not possible.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno == errno.ENOENT:  # so says /proc, which takes no folders
            error = PermissionError(errno.EACCES, "nothing can be created there")
        raise_if_disk_is_at_fault(error, path)
        raise


def temporary_path(path: Path) -> Path:
    """Return a path beside ``path`` that no other call or process has; nothing is created.

    Its name states the machine and the process, see ``remove_leftovers``. The suffix stays, as some
    libraries choose the format by it.
    """
    owner = f"{_machine()}_{os.getpid()}_{secrets.token_hex(4)}"
    return path.with_name(f"{_TEMPORARY}{owner}_{path.name[-_MAX_NAME:]}")


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files and folders that killed processes left.

    Those of a running process stay. The processes of other machines and containers cannot be seen:
    what they left is removed after a day. A folder is searched once in the life of a process.

    Args:
        folder: Folder to clean, without the folders below it.
    """
    folder = folder.absolute()
    if folder in _CLEANED:
        return
    _CLEANED.add(folder)
    for left in folder.glob(f"{_TEMPORARY}*"):
        with suppress(OSError):  # another process was faster
            if not _is_abandoned(left):
                continue
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            else:
                left.unlink()


def _is_abandoned(left: Path) -> bool:
    machine, process = [*left.name.removeprefix(_TEMPORARY).split("_"), "", ""][:2]
    if machine == _machine() and process.isdecimal():
        return not _is_running(int(process))
    return time.time() - left.lstat().st_mtime > _SECONDS_PER_DAY


@lru_cache(maxsize=1)
def _machine() -> str:
    """Return a name of the machine, or of the container, in which process ids have a meaning."""
    namespace = ""
    with suppress(OSError):  # only Linux has it
        namespace = str(Path("/proc/self/ns/pid").readlink())
    return hashlib.sha256(f"{platform.node()} {namespace}".encode()).hexdigest()[:8]


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # of another user
        return True
    return True


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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


def load_json(path: Path) -> Any:
    """Return the content of a JSON file, with or without byte order mark.

    Raises:
        ValueError: If it is no JSON, no UTF-8, or nested too deeply.
        OSError: If the file cannot be opened.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


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


def check_writable(path: Path) -> None:
    """Check that files can be written to a folder, as ``ensure_writable``; no folder is left.

    Raises:
        InputError: If there is no space left on the device, or the folder is not writable.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        ensure_writable(path)
    finally:
        for folder in missing:
            with suppress(OSError):  # was not created, or another process writes to it
                folder.rmdir()


def raise_if_disk_is_at_fault(error: OSError, path: Path) -> None:
    """Raise an ``InputError`` that names ``path`` if the disk is full or write-protected.

    Other errors are ignored.
    """
    if error.errno == errno.ENOENT and f"/{_TEMPORARY}" in str(error.filename):
        error = PermissionError(errno.EACCES, "nothing can be created there")
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        reason = "it is too large for the disk or a limit" if error.errno == errno.EFBIG else _FULL
        what, expected = f"cannot be written, {reason}", "free space on the disk"
        existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
        found = f"{shutil.disk_usage(existing).free / 2**20:.0f} MiB free below {existing}"
        remedy = (
            "free some space there, or choose another folder (run_dir=..., out=..., data.cache=...)"
        )
    elif error.errno in _NOT_WRITABLE:
        what, expected = "cannot be written", "a folder with permission to write"
        found = error.strerror or type(error).__name__
        remedy = "choose another folder (run_dir=..., out=..., --out, data.cache=...)"
    else:
        return
    raise InputError(
        Problem(where=str(path), what=what, expected=expected, found=found, remedy=remedy)
    ) from error


def is_system_error(error: Exception) -> bool:
    """Return whether the system raised an error, and not the content of a file.

    A damaged file may lead to a place before its start, which is an invalid argument.
    """
    return isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)


def files_below(folder: Path) -> list[Path]:
    """Return all files in a folder and below, sorted; links to folders are followed.

    A link to a folder that contains the link, or the searched folder, is not followed. A file that
    links lead to twice is listed under both of its paths.
    """
    files: list[Path] = []
    # The real folders from the searched one down
    chains: dict[Path, tuple[Path, ...]] = {folder: (folder.resolve(),)}
    for name, subfolders, names in os.walk(folder, followlinks=True):
        current = Path(name)
        chain = chains.pop(current)
        files += [current / file for file in names if (current / file).is_file()]
        below = {sub: (current / sub).resolve() for sub in subfolders}
        subfolders[:] = [
            sub for sub, real in below.items() if not any(c.is_relative_to(real) for c in chain)
        ]
        chains |= {current / sub: (*chain, below[sub]) for sub in subfolders}
    return sorted(files)


def content_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes; unchanged files are read once per process."""
    status = path.stat()
    return _digest(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4096)
def _digest(path: Path, _mtime_ns: int, _size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
