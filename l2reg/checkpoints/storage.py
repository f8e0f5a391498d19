"""Save and load the state of a run, whole or not at all."""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from l2reg.io.files import atomic_write
from l2reg.problems import InputError, Problem

FORMAT = 1
BEST, LAST = "best.pt", "last.pt"


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write ``state`` to ``path``; a crash in the middle leaves the previous file intact.

    Args:
        path: Where to.
        state: Tensors, numbers, strings, and containers of them.
    """
    with atomic_write(path) as draft, draft.open("wb") as file:  # so that a full disk is seen
        torch.save({"format": FORMAT, **state}, file)


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; runs no code that the file might carry.

    Raises:
        InputError: If there is no such file, it is damaged, or it was written by another version
            of the format.
    """
    expected = f"a checkpoint of train.py, format {FORMAT}"
    remedy = "name a run folder or one of its .pt files: ckpt=runs/lung_unet"
    if not path.is_file():
        raise InputError(
            Problem(
                where=str(path),
                what="is missing",
                expected=expected,
                found="no such file",
                remedy=remedy,
            )
        )
    try:
        if not zipfile.is_zipfile(path):  # torch would read it by an older format's rules
            raise zipfile.BadZipFile("not a file that torch wrote, or part of one")
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile, OSError) as error:
        found = f"{path.stat().st_size} bytes, and then: {_first_line(error)}"
        raise InputError(
            Problem(
                where=str(path),
                what="is damaged or no checkpoint",
                expected=expected,
                found=found,
                remedy=remedy,
            )
        ) from error
    found_format = state.get("format") if isinstance(state, dict) else None
    if found_format != FORMAT:
        found = f"format {found_format}"
        remedy = "load it with the version of l2reg in its run's environment.json"
        raise InputError(
            Problem(
                where=str(path),
                what="has another format",
                expected=expected,
                found=found,
                remedy=remedy,
            )
        )
    loaded: dict[str, Any] = state
    return loaded


def find(named: Path) -> Path:
    """Return the checkpoint file that a user names: a file, or a run folder's best or last."""
    if named.is_dir():
        return named / BEST if (named / BEST).is_file() else named / LAST
    return named


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
