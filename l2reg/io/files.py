"""Write files whole or not at all."""

import errno
import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from l2reg.problems import InputError, Problem


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a draft to write to, and rename it to ``path`` when the block ends well.

    A crash, a full disk or an interrupt leaves the previous file as it was and no draft behind.

    Raises:
        InputError: If there is no space left on the device, or the folder is not writable.
    """
    temporary = path.with_name(
        f".part_{path.name}"
    )  # keeps the suffix, by which some choose the format
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise_if_disk_is_at_fault(error, path)
        raise
    finally:
        with suppress(OSError):  # none is there where none could be written
            temporary.unlink(missing_ok=True)


def ensure_writable(path: Path) -> None:
    """Make a folder that is to be written to much later, and write a file of no bytes to try it.

    Raises:
        InputError: As ``atomic_write``.
    """
    with atomic_write(path / ".writable") as temporary:
        temporary.touch()
    (path / ".writable").unlink()


def raise_if_disk_is_at_fault(error: OSError, path: Path) -> None:
    """Turn a full or write-protected disk into an ``InputError`` that names ``path``."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        what, expected = "cannot be written, the disk is full", "free space on the disk"
        existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
        found = f"{shutil.disk_usage(existing).free / 2**20:.0f} MiB free below {existing}"
        remedy = "make room there, or name another folder (run_dir=..., out=..., data.cache=...)"
    elif error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST):
        what, expected = "cannot be written", "a folder that may be written to"
        found = error.strerror or type(error).__name__
        remedy = "name another folder (run_dir=..., out=..., data.cache=...)"
    else:
        return
    raise InputError(
        Problem(where=str(path), what=what, expected=expected, found=found, remedy=remedy)
    ) from error


def prepare_output_folder(path: Path, *, marker: str, overwrite: bool) -> None:
    """Make sure that ``path`` is a new folder, or one to be written anew.

    Args:
        path: The folder; it is not created.
        marker: A file that every folder of this kind has. A folder without it was made by somebody
            else and is never deleted.
        overwrite: Whether to delete what such a folder holds.

    Raises:
        InputError: If it exists and must not be deleted.
    """
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    ours = (path / marker).is_file()
    if not (overwrite and ours):
        remedy = "name another folder"
        raise InputError(
            Problem(
                where=str(path),
                what="exists",
                expected="a new folder",
                found=f"a folder with a {marker}" if ours else f"something without a {marker}",
                remedy=f"{remedy}, or overwrite=true to delete this one" if ours else remedy,
            )
        )
    shutil.rmtree(path)


def content_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes; unchanged files are read once per process."""
    status = path.stat()
    return _digest(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4096)
def _digest(path: Path, _mtime_ns: int, _size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
