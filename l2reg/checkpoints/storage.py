"""Checkpoint files: save, load and find the state of a run."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from l2reg.io.files import atomic_write, is_system_error
from l2reg.io.zips import check_members
from l2reg.problems import InputError, Problem
from l2reg.wording import quantity

# Raise it when a checkpoint's config has other keys or classes, or its weights give another field:
# since 3 the grids of all levels of a network have the same corners
FORMAT = 3
OTHER_BUILD = "load it with the l2reg of the commit in its run's environment.json, or train again"
BEST, LAST = "best.pt", "last.pt"


class DamagedCheckpointError(InputError):
    """Error of a checkpoint that is missing or damaged, in whose place another may do."""


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint; a crash during writing leaves the previous file intact.

    Args:
        path: The file to write.
        state: Tensors, numbers and strings, and containers of them.
    """
    content = io.BytesIO()  # torch would hide that a disk is full
    torch.save({"format": FORMAT, **state}, content)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU, without running code that the file may contain.

    Raises:
        DamagedCheckpointError: If the file is missing or damaged.
        InputError: If it has another version of the format.
    """
    expected = f"a checkpoint of l2reg train, format {FORMAT}"
    remedy = "name a run folder or one of its .pt files, such as runs/lung_unet"
    state = read(path, expected, remedy)
    check_format(state, path)
    loaded: dict[str, Any] = state
    return loaded


def check_format(state: Any, path: Path) -> None:
    """Raise an ``InputError`` unless what a file holds is of this version of the format."""
    expected = f"a checkpoint of `l2reg train`, format {FORMAT}"
    found_format = state.get("format") if isinstance(state, dict) else None
    if found_format != FORMAT:
        written_by = state.get("l2reg", "unknown") if isinstance(state, dict) else "unknown"
        found = f"format {found_format}, written by l2reg {written_by}"
        remedy = OTHER_BUILD if found_format else f"{OTHER_BUILD}; LapIRN's: l2reg import-weights"
        raise InputError(
            Problem(
                where=str(path),
                what="has another format",
                expected=f"{expected}; the weights of an earlier one give another field now",
                found=found,
                remedy=remedy,
            )
        )


def read(path: Path, expected: str, remedy: str) -> Any:
    """Return what ``torch.save`` wrote, on the CPU, without running code that the file may contain.

    Args:
        path: The file.
        expected: Description of the file, for errors.
        remedy: Remedy of all errors.

    Raises:
        DamagedCheckpointError: If the file is missing or damaged.
    """
    if not path.is_file():
        raise DamagedCheckpointError(
            Problem(
                where=str(path),
                what="is missing",
                expected=expected,
                found="no such file",
                remedy=remedy,
            )
        )
    try:
        check_members(path)  # torch ignores checksums, and reads older formats than zip
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of any kind: it depends on the bytes
        if is_system_error(error):
            raise
        found = f"{quantity(path.stat().st_size, 'byte')}; reading failed: {_first_line(error)}"
        raise DamagedCheckpointError(
            Problem(
                where=str(path),
                what="is damaged or is not a checkpoint",
                expected=expected,
                found=found,
                remedy=remedy,
            )
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def weights(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the weights to predict with: their moving average if the run keeps one."""
    if "averaged" not in state:
        return dict(state["model"])
    prefix = "module."
    averaged = state["averaged"].items()
    return {name.removeprefix(prefix): t for name, t in averaged if name.startswith(prefix)}
