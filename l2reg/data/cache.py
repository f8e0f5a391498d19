"""Cache of preprocessed volumes on disk, keyed by file content and preprocessing settings."""

import hashlib
import io
import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from l2reg.io.files import atomic_write
from l2reg.io.scan_source import input_digest

VERSION = 3  # increase when the same settings give other voxels
_N_CHECKSUM, _N_HEADER = 4, 1000  # bytes; those of the header at most


class Cache:
    """Folder of cached arrays, which can be deleted at any time and shared by many processes.

    Args:
        folder: Folder of the arrays, or ``None`` to compute every array anew.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def get(
        self, source: Path, settings: Mapping[str, Any], compute: Callable[[], np.ndarray]
    ) -> np.ndarray:
        """Return the cached result of ``compute``, or call it and cache the result.

        An entry whose checksum is wrong is computed anew and replaced. Processes that ask for the
        same new entry at once all compute it, and one of their files stays.

        Args:
            source: File or DICOM folder that ``compute`` reads; its content is part of the key.
            settings: Everything else that the result depends on, as values that JSON can hold.
            compute: Function that computes the array.
        """
        digest = None if self.folder is None else input_digest(source)
        if self.folder is None or digest is None:
            return compute()
        key = json.dumps([VERSION, digest, dict(settings)], sort_keys=True)
        path = self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:40]}.npy"
        cached = _read(path)
        if cached is not None:
            return cached
        array = compute()
        content = io.BytesIO()  # NumPy would hide that a disk is full
        np.save(content, array)
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            file.write(content.getbuffer())
            file.write(_checksum(content.getbuffer()))
        return array


def _read(path: Path) -> np.ndarray | None:
    """Return the array of an entry; ``None`` if there is none, or if it is damaged."""
    try:
        content = np.fromfile(path, np.uint8)
    except OSError:
        return None
    body, checksum = content[:-_N_CHECKSUM], content[-_N_CHECKSUM:]
    if checksum.tobytes() != _checksum(body.data):
        return None
    file = io.BytesIO(body[:_N_HEADER].tobytes())
    np.lib.format.read_magic(file)
    shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
    values = body[file.tell() :].view(dtype)
    return values.reshape(shape, order="F" if is_fortran else "C")


def _checksum(content: memoryview) -> bytes:
    """Return the CRC-32 of the bytes of an array's file, which an entry ends with."""
    return zlib.crc32(content).to_bytes(_N_CHECKSUM, "big")
