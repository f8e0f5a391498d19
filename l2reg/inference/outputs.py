"""Extra outputs of a prediction: warped scans and labels, deformed grids, ITK transforms."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch

from l2reg.data.pairs import Pair
from l2reg.evaluation.metrics import warp_labels
from l2reg.geometry.warp import warp
from l2reg.io.volumes import (
    place_problems,
    read_affine,
    read_image,
    read_labels,
    read_placement,
    read_voxel_type,
    write_volume,
)
from l2reg.problems import InputError, Problem
from l2reg.shapes import Field
from l2reg.transforms.itk import write_warp
from l2reg.transforms.warped_scan import write_warped_scan
from l2reg.transforms.world_transform import displacement_map

Extra = Literal["warped", "labels", "grid", "transform"]


def check_extras(save: Sequence[str]) -> None:
    """Raise ``InputError`` if ``save`` names an unknown output."""
    if unknown := sorted(set(save) - set(get_args(Extra))):
        known = ", ".join(get_args(Extra))
        raise InputError(
            Problem(
                where=f"save={list(save)}",
                what="names an unknown output",
                expected=known,
                found=f"{unknown}",
                remedy=f"save=[{known}]",
            )
        )


def extra_problems(pairs: Sequence[Pair], save: Sequence[str]) -> list[Problem]:
    """Return the faults of headers that would keep extra outputs of pairs from being written."""
    if not save:
        return []
    moving = [pair.moving.image for pair in pairs] if "transform" in save else []
    return place_problems([*(pair.fixed.image for pair in pairs), *moving])


def save_extras(folder: Path, pair: Pair, full: Field, save: Sequence[Extra]) -> None:
    """Write extra outputs of a pair, on the grid of the fixed scan and at its place.

    ``warped``: the moving scan in its own intensities and data type, resampled once. ``labels``:
    the moving labels, warped as in the official evaluation. ``grid``: a deformed grid.
    ``transform``: the displacement field in the form of ITK and ANTs.

    Args:
        folder: Folder to write to.
        pair: The files of the pair.
        full: The field in voxels of the full grid, prealignment included.
        save: The outputs to write.
    """
    if not save:
        return
    place = read_placement(pair.fixed.image)
    disp = full[0].numpy()

    def store(kind: str, array: np.ndarray) -> None:
        write_volume(folder / f"{kind}_{pair.name}.nii.gz", array, place)

    if "warped" in save:
        image = pair.moving.image
        path = folder / f"warped_{pair.name}.nii.gz"
        write_warped_scan(path, read_image(image), read_voxel_type(image), full, place)
    if "labels" in save and pair.moving.labels is not None:
        store("labels", warp_labels(read_labels(pair.moving.labels), disp))
    if "grid" in save:
        store("grid", _grid_lines(full))
    if "transform" in save:
        path = folder / f"transform_{pair.name}.nii.gz"
        write_warp(path, displacement_map(disp, place, read_affine(pair.moving.image)))


def _grid_lines(full: Field, every: int = 8) -> np.ndarray:
    """Return the deformed grid: planes ``every`` voxels apart, warped by the field."""
    lines = torch.zeros(1, 1, *full.shape[2:])
    for axis in range(3):
        lines.index_fill_(2 + axis, torch.arange(0, lines.shape[2 + axis], every), 1.0)
    return warp(lines, full)[0, 0].numpy()
