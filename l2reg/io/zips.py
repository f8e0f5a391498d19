"""Zip archives of others: members are read with one kind of error for all that is wrong."""

import io
import lzma
import struct
import zipfile
import zlib
from pathlib import Path

MAX_MEMBER = 2**30  # bytes; a field of the largest task has a sixth in float64

_DAMAGE = (EOFError, KeyError, ValueError, RuntimeError, struct.error, zlib.error, lzma.LZMAError)


def open_zip(source: Path | io.BytesIO) -> zipfile.ZipFile:
    """Return an open archive.

    Raises:
        zipfile.BadZipFile: If it is no zip, or damaged.
        OSError: If the file cannot be opened.
    """
    try:
        return zipfile.ZipFile(source)
    except _DAMAGE as error:
        raise zipfile.BadZipFile(str(error)) from error


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return the bytes of a member, which have its checksum.

    Raises:
        zipfile.BadZipFile: If the member is missing, damaged, encrypted, or larger than
            ``MAX_MEMBER``.
        OSError: If the file cannot be read.
    """
    try:
        if (size := archive.getinfo(name).file_size) > MAX_MEMBER:
            raise zipfile.BadZipFile(f"{name} has {size} bytes")
        return archive.read(name)
    except _DAMAGE as error:
        raise zipfile.BadZipFile(str(error)) from error


def check_members(source: Path) -> None:
    """Check the checksums of all members of an archive.

    Raises:
        zipfile.BadZipFile: If the archive or one of its members is damaged.
        OSError: If the file cannot be read.
    """
    with open_zip(source) as archive:
        try:
            damaged = archive.testzip()
        except _DAMAGE as error:
            raise zipfile.BadZipFile(str(error)) from error
    if damaged is not None:
        raise zipfile.BadZipFile(f"{damaged} does not have its checksum")
