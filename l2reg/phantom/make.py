"""Make phantoms: write a phantom data set, and describe it as a task."""

import errno
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from l2reg.config.build import build
from l2reg.config.presets import CHALLENGE_TASKS, load_preset
from l2reg.data.task import Task
from l2reg.io.files import (
    load_json,
    make_folder,
    raise_if_disk_is_at_fault,
    remove_leftovers,
    strict_json,
    temporary_path,
)
from l2reg.io.output_folders import OutputKind
from l2reg.phantom.writer import Writer
from l2reg.problems import InputError, Problem, check_seed_value
from l2reg.shapes import Shape3, Spacing

SMALL_SHAPES: Mapping[str, Shape3] = {
    "lung": (72, 64, 80),
    "abdomen": (72, 60, 76),
    "oasis": (60, 72, 84),
}
FLAVOURS = CHALLENGE_TASKS
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
    """Return the task of a phantom data set, which is written first if it does not exist.

    Args:
        flavour: Task that the phantom imitates: ``abdomen``, ``lung`` or ``oasis``.
        size: ``full`` for the challenge's grid, ``small`` for a coarser one of the same extent in
            mm.
        seed: Seed of the patients.
        pairs: Number of pairs; a quarter of them, at least one, is for validation.
        root: Folder of the data set; ``data/phantom/<flavour>_<size>_<seed>`` if ``None``.
        name: Name of the task.

    Raises:
        InputError: If the flavour or size is unknown, or if the folder holds another phantom.
    """
    task = base_task(flavour, size)
    folder = Path(root).expanduser() if root else Path("data/phantom") / f"{flavour}_{size}_{seed}"
    if not folder.exists():
        try:
            make_phantom(flavour, folder, n_pairs=pairs, size=size, seed=seed)
        except InputError:
            if not folder.exists():  # else another process wrote it meanwhile
                raise
    _check_manifest(folder, _manifest(flavour, size, seed, pairs))
    return replace(task, name=name, root=folder)


def make_phantom(flavour: str, out: Path, *, n_pairs: int, size: str, seed: int) -> None:
    """Write a phantom data set in the challenge's 2021 layout, whole or not at all.

    The folder ``out/task_0T`` holds the scans, their labels or masks, ``pairs_val.csv`` and
    ``truth/disp_FFFF_MMMM.npz``: the true field of every listed pair on the full grid, ``arr_0``
    of shape (3, i, j, k), float16, in voxels.

    Args:
        flavour: Task that the phantom imitates: ``abdomen``, ``lung`` or ``oasis``.
        out: Path of a folder that does not exist yet.
        n_pairs: Number of pairs; a quarter of them, at least one, is for validation.
        size: ``small`` or ``full``.
        seed: Seed of the patients, which determines every voxel.

    Raises:
        InputError: If an option is out of range, or if ``out`` exists.
    """
    task = base_task(flavour, size)
    if n_pairs < 1:
        raise InputError(
            Problem(
                where="pairs",
                what="are too few",
                expected="at least 1",
                found=str(n_pairs),
                remedy="ask for 1 pair or more",
            )
        )
    check_seed_value("seed", seed)
    if out.exists():
        raise InputError(_exists(out))
    temporary = temporary_path(out)
    try:
        make_folder(out.parent)
        remove_leftovers(out.parent)
        writer = Writer(task, temporary / task.layouts["2021"].folder, seed)
        jobs = list(writer.jobs(n_pairs))
        for job in tqdm(jobs, f"making {flavour} phantoms", disable=None):
            job()
        manifest = strict_json(_manifest(flavour, size, seed, n_pairs), indent=1)
        (temporary / MANIFEST).write_text(manifest, encoding="utf-8")
        (temporary / OutputKind.PHANTOM).touch()
        temporary.rename(out)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):  # another process was faster
            raise InputError(_exists(out)) from error
        raise_if_disk_is_at_fault(error, out)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _exists(out: Path) -> Problem:
    return Problem(
        where=str(out),
        what="already exists",
        expected="a folder that does not exist",
        found="a folder" if out.is_dir() else "a file",
        remedy="remove it or choose another folder",
    )


def base_task(flavour: str, size: str) -> Task:
    """Return the challenge's task with the grid of the phantom and without its official pairs."""
    for option, value, known in (("flavour", flavour, FLAVOURS), ("size", size, SIZES)):
        if value not in known:
            choices = ", ".join(known)
            problem = Problem(
                where=option,
                what="is unknown",
                expected=choices,
                found=repr(value),
                remedy=f"use one of: {choices}",
            )
            raise InputError(problem)
    task: Task = build(load_preset("task", flavour))
    layouts = {"2021": replace(task.layouts["2021"], val=(), test=())}
    if size == "full":
        return replace(task, layouts=layouts)
    spacing: Spacing = tuple(  # type: ignore[assignment]
        mm * n / small
        for mm, n, small in zip(task.spacing_mm, task.shape, SMALL_SHAPES[flavour], strict=True)
    )
    return replace(task, layouts=layouts, shape=SMALL_SHAPES[flavour], spacing_mm=spacing)


def _manifest(flavour: str, size: str, seed: int, pairs: int) -> dict[str, Any]:
    """Return the options that determine a phantom, which are stored with it."""
    return {"flavour": flavour, "size": size, "seed": seed, "pairs": pairs}


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the options of the phantom in a folder, see ``phantom_task``.

    Raises:
        InputError: If its manifest cannot be read or has other entries.
    """
    path = folder / MANIFEST
    try:
        content = load_json(path)
        return _manifest(**content)
    except (ValueError, TypeError) as error:
        raise InputError(
            Problem(
                where=str(path),
                what="is not the description of a phantom",
                expected="flavour, size, seed and pairs, as l2reg phantom writes them",
                found=str(error),
                remedy="remove the folder, and make the phantom again with l2reg phantom",
            )
        ) from error


def _check_manifest(folder: Path, expected: Mapping[str, Any]) -> None:
    """Refuse a folder that does not hold the phantom of the ``expected`` manifest."""
    path = folder / MANIFEST
    found = read_manifest(folder) if path.is_file() else "no phantom"
    if found != expected:
        raise InputError(
            Problem(
                where=str(folder),
                what="holds other data than the requested phantom",
                expected=str(dict(expected)),
                found=str(found),
                remedy="remove this folder, or choose another task.seed"
                if path.is_file()
                else "leave data.root out, or name a folder that does not exist yet",
            )
        )
