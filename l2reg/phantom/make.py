"""Write a phantom data set, and describe it as a task."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from l2reg.config.build import build
from l2reg.config.presets import load_preset
from l2reg.data.task import Task
from l2reg.io.files import raise_if_disk_is_at_fault
from l2reg.phantom.writer import Writer
from l2reg.problems import InputError, Problem
from l2reg.shapes import Shape3, Spacing

SMALL: Mapping[str, Shape3] = {
    "lung": (72, 64, 80),
    "abdomen": (72, 60, 76),
    "oasis": (60, 72, 84),
}
FLAVOURS = tuple(SMALL)
SIZES = ("small", "full")
MANIFEST = "phantom.json"


def phantom_task(
    flavour: str,
    size: str,
    seed: int,
    pairs: int,
    root: str | Path | None = None,
    name: str = "phantom",
) -> Task:
    """Return the task of a phantom data set, which is made now if it is not on disk yet.

    Args:
        flavour: ``lung``, ``abdomen`` or ``oasis``: the task it imitates.
        size: ``full`` has the challenge's grid, ``small`` a coarser one of the same extent in mm.
        seed: Another seed is other patients.
        pairs: Number of pairs; a quarter of them, at least one, is for validation.
        name: Name of the task.
        root: Where to keep it; else ``data/phantom/<flavour>_<size>_<seed>``.

    Raises:
        InputError: If the flavour or size is unknown, or a folder of that name holds another
            phantom.
    """
    task = _described(flavour, size)
    folder = Path(root) if root else Path("data/phantom") / f"{flavour}_{size}_{seed}"
    if not folder.exists():
        make_phantom(flavour, folder, n_pairs=pairs, size=size, seed=seed)
    else:
        _check_is(folder, _manifest(flavour, size, seed, pairs))
    return replace(task, name=name, root=folder)


def make_phantom(flavour: str, out: Path, *, n_pairs: int, size: str, seed: int) -> None:
    """Write a phantom data set in the challenge's 2021 layout, whole or not at all.

    Below ``out/task_0T`` lie scans, labels or masks, ``pairs_val.csv``, and
    ``truth/disp_FFFF_MMMM.npz``: the true field of every listed pair on the full grid, ``arr_0``
    of shape (3, i, j, k), float16, in voxels.

    Args:
        flavour: ``lung``, ``abdomen`` or ``oasis``.
        out: A folder that does not exist yet.
        n_pairs: Pairs in all; a quarter of them, at least one, is for validation.
        size: ``small`` or ``full``.
        seed: Every voxel is a function of it.

    Raises:
        InputError: If an option is out of range, or ``out`` exists.
    """
    task = _described(flavour, size)
    if n_pairs < 1:
        raise InputError(
            Problem(
                where="pairs",
                what="are too few",
                expected="at least 1",
                found=str(n_pairs),
                remedy="more of them",
            )
        )
    if out.exists():
        raise InputError(
            Problem(
                where=str(out),
                what="exists",
                expected="a new folder",
                found="a folder",
                remedy="remove it or name another",
            )
        )
    draft = out.with_name(f".{out.name}.part")
    shutil.rmtree(draft, ignore_errors=True)  # what an interrupted call left
    try:
        writer = Writer(task, draft / task.layouts["2021"].folder, seed)
        jobs = list(writer.jobs(n_pairs))
        for job in tqdm(jobs, f"making {flavour} phantoms", disable=None):
            job()
        manifest = json.dumps(_manifest(flavour, size, seed, n_pairs), indent=1)
        (draft / MANIFEST).write_text(manifest, encoding="utf-8")
        out.parent.mkdir(parents=True, exist_ok=True)
        draft.rename(out)
    except OSError as error:
        raise_if_disk_is_at_fault(error, out)
        raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _described(flavour: str, size: str) -> Task:
    for option, value, known in (("flavour", flavour, FLAVOURS), ("size", size, SIZES)):
        if value not in known:
            wanted = ", ".join(known)
            problem = Problem(
                where=option,
                what="is unknown",
                expected=wanted,
                found=repr(value),
                remedy=f"use one of: {wanted}",
            )
            raise InputError(problem)
    task: Task = build(load_preset("task", flavour))
    layouts = {"2021": replace(task.layouts["2021"], val=(), test=())}
    if size == "full":
        return replace(task, layouts=layouts)
    spacing: Spacing = tuple(  # type: ignore[assignment]
        mm * n / small
        for mm, n, small in zip(task.spacing_mm, task.shape, SMALL[flavour], strict=True)
    )
    return replace(task, layouts=layouts, shape=SMALL[flavour], spacing_mm=spacing)


def _manifest(flavour: str, size: str, seed: int, pairs: int) -> dict[str, Any]:
    return {"flavour": flavour, "size": size, "seed": seed, "pairs": pairs}


def _check_is(folder: Path, wanted: Mapping[str, Any]) -> None:
    path = folder / MANIFEST
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else "no phantom"
    if found != wanted:
        raise InputError(
            Problem(
                where=str(folder),
                what="holds other data than asked for",
                expected=str(dict(wanted)),
                found=str(found),
                remedy="remove that folder, or take another task.seed",
            )
        )
