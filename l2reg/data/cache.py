"""Keep preprocessed volumes on disk, by the content of their file and what was done to it."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from l2reg.io.files import atomic_write, content_digest

VERSION = 1  # raise when the same settings lead to other voxels


class Cache:
    """A folder of arrays; delete it whenever you like.

    Args:
        folder: Where to keep them, or ``None`` to compute everything anew.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def get(
        self, source: Path, settings: Mapping[str, Any], compute: Callable[[], np.ndarray]
    ) -> np.ndarray:
        """Return ``compute()``, from disk if the same was computed from the same bytes before.

        Args:
            source: File that ``compute`` reads.
            settings: All that the result depends on besides; must survive ``json.dumps``.
            compute: What to do otherwise.
        """
        if self.folder is None or not source.is_file():
            return compute()
        key = json.dumps([VERSION, content_digest(source), dict(settings)], sort_keys=True)
        path = self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:40]}.npy"
        if path.is_file():
            kept: np.ndarray = np.load(path)
            return kept
        array = compute()
        with atomic_write(path) as draft, draft.open("wb") as file:
            np.save(file, array)
        return array
