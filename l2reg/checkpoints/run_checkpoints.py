"""Checkpoints of a run folder: the newest, those before it, and which to use if one is damaged."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l2reg.checkpoints import storage
from l2reg.checkpoints.model_export import EXPORTED, WEIGHTS, read_export

_EARLIER = re.compile(r"step_(\d+)\.pt")


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A checkpoint that could be read.

    Attributes:
        path: Its file.
        state: Its content.
        notes: A sentence for each newer checkpoint that is missing or damaged, in place of which
            this one was taken.
    """

    path: Path
    state: dict[str, Any]
    notes: Sequence[str]


def earlier_checkpoints(run_dir: Path) -> list[Path]:
    """Return the checkpoints ``step_N.pt`` of a run, former ``last.pt``; newest first."""
    found = {p: match for p in run_dir.glob("step_*.pt") if (match := _EARLIER.fullmatch(p.name))}
    return sorted(found, key=lambda path: int(found[path][1]), reverse=True)


def save_last(run_dir: Path, state: Mapping[str, Any], before: int | None, keep: int) -> None:
    """Write ``last.pt``; the one before stays as ``step_N.pt``.

    Whenever the process is killed, the newest complete checkpoint is ``last.pt`` or, where the file
    system has no hard links, the newest ``step_N.pt``.

    Args:
        run_dir: Folder of the run.
        state: See ``storage.save``; ``state["step"]`` is its step.
        before: Step of the present ``last.pt``; ``None`` if there is none.
        keep: Number of checkpoints that stay, with ``last.pt``; 1 or more.
    """
    last = run_dir / storage.LAST
    if keep > 1 and before is not None and before != state["step"] and last.is_file():
        _name_by_step(last, before)
    storage.save(last, state)
    for path in earlier_checkpoints(run_dir)[keep - 1 :]:
        path.unlink()


def _name_by_step(last: Path, step: int) -> None:
    """Give ``last.pt`` a second name, or another one where a file can have one name only."""
    earlier = last.with_name(f"step_{step}.pt")
    earlier.unlink(missing_ok=True)
    try:
        os.link(last, earlier)
    except OSError:
        last.replace(earlier)


def load_last(run_dir: Path) -> LoadedCheckpoint:
    """Return the newest checkpoint of a run that is not damaged, to resume from.

    Raises:
        InputError: If there is none, or the newest has another version of the format.
    """
    return _load_first([run_dir / storage.LAST, *earlier_checkpoints(run_dir)])


def drop_newer(run_dir: Path, used: Path) -> None:
    """Make ``used``, a result of ``load_last``, the ``last.pt``; the newer ones are damaged."""
    if used.name == storage.LAST:
        return
    for path in earlier_checkpoints(run_dir):
        if path == used:
            break
        path.unlink()
    used.replace(run_dir / storage.LAST)


def load_checkpoint(checkpoint: Path) -> LoadedCheckpoint:
    """Return the first of ``checkpoint_files`` that is not damaged, to start or predict from.

    Raises:
        InputError: If there is none, or it has another version of the format.
    """
    return _load_first(checkpoint_files(checkpoint))


def checkpoint_files(checkpoint: Path) -> list[Path]:
    """Return the files that a path stands for, one or more; the first is that to use.

    Args:
        checkpoint: A file, which stands for itself alone; a run folder: its best checkpoint, its
            last and those before; or a folder of ``l2reg export``.
    """
    if not checkpoint.is_dir():
        return [checkpoint]
    if (checkpoint / WEIGHTS).is_file():
        return [checkpoint / WEIGHTS]
    last = [checkpoint / storage.LAST, *earlier_checkpoints(checkpoint)]
    best = checkpoint / storage.BEST
    return [best, *last] if best.is_file() else last


def _load_first(paths: Sequence[Path]) -> LoadedCheckpoint:
    """Return the first checkpoint that can be read; else raise the error of the first."""
    errors: list[storage.DamagedCheckpointError] = []
    for path in paths:
        try:
            state = read_export(path) if path.suffix == EXPORTED else storage.load(path)
        except storage.DamagedCheckpointError as error:
            errors.append(error)
            continue
        notes = [
            f"{e.problems[0].where} {e.problems[0].what} ({e.problems[0].found}): "
            f"{path.name} of step {state['step']} is used instead"
            for e in errors
        ]
        return LoadedCheckpoint(path, state, notes)
    raise errors[0]
