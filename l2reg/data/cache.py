"""Cache of preprocessed volumes on disk, keyed by file content and preprocessing settings."""

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from l2reg.io.files import atomic_write, content_digest

VERSION = 2  # increase when the same settings give other voxels


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

        A damaged entry is computed anew and replaced. Processes that ask for the same new entry at
        once all compute it, and one of their files stays.

        Args:
            source: File that ``compute`` reads; its content is part of the key.
            settings: Everything else that the result depends on, as values that JSON can hold.
            compute: Function that computes the array.
        """
        if self.folder is None or not source.is_file():
            return compute()
        key = json.dumps([VERSION, content_digest(source), dict(settings)], sort_keys=True)
        path = self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:40]}.npy"
        cached = _read(path)
        if cached is not None:
            return cached
        array = compute()
        content = io.BytesIO()  # NumPy would hide that a disk is full
        np.save(content, array)
        with atomic_write(path) as temporary:
            temporary.write_bytes(content.getbuffer())
        return array


def _read(path: Path) -> np.ndarray | None:
    """Return the array of an entry; ``None`` if there is none, or if it is damaged."""
    try:
        with path.open("rb") as file:
            array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
    except Exception:  # of any kind: NumPy parses the header as Python
        return None
    return array
