"""Warn where the images say that a submitted field was meant otherwise than it is read."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from l2reg.batch import Batch
from l2reg.data.pairs import Pair
from l2reg.data.reader import PairReader
from l2reg.data.task import Task
from l2reg.features.mind import mind_ssc
from l2reg.geometry.resize import resample, voxel_ratio
from l2reg.geometry.warp import voxel_coords, warp
from l2reg.problems import Problem
from l2reg.shapes import Field
from l2reg.submission.bundle import Submission, open_submission
from l2reg.submission.fields import read_field, read_full_field
from l2reg.submission.half_resolution import half_shape
from l2reg.submission.rules import Rules

AS_IT_IS = "as it is"

_PAIRS = 4  # that are looked at, spread over the list
_LEAST_GAIN = 0.1  # of the mismatch
_REMEDIES = {
    "half values": "do not halve them: half resolution means fewer samples, not smaller values",
    "double values": "do not double them: values are voxels of the full grid",
    "millimetres": "divide component c by the voxel size along axis c",
    "axes reversed": "reverse the components: number c moves along array axis c",
    "first axes swapped": "swap components 0 and 1",
    "last axes swapped": "swap components 1 and 2",
    "wrong sign": "it has to point from the fixed grid into the moving image: submit its inverse",
    "normalised": "multiply component c by (size of axis c - 1) / 2",
    "normalised, axes reversed": "reverse the components and multiply number c by "
    "(size of axis c - 1) / 2",
    "positions": "subtract every voxel's own position: a submission holds displacements",
    "normalised positions, axes reversed": "this is a sampling grid of torch: subtract the "
    "identity, reverse the components, multiply by (size - 1) / 2",
}


def alternative_conventions(disp: Field, task: Task) -> dict[str, Field]:
    """Return what a field would be if it had been written otherwise than the rules say.

    Args:
        disp: As submitted: voxels of the full grid, sampled on the half grid.
        task: Its grid and voxel size.

    Returns:
        By name, in the same form; ``AS_IT_IS`` among them. Readings that do not differ for this
        task are left out.
    """
    scale = _column(disp, [(size - 1) / 2 for size in task.shape])
    ratio = voxel_ratio(disp.shape[2:], task.shape)
    positions = voxel_coords(disp) * _column(disp, ratio)
    reversed_ = disp.flip(1)
    found = {
        AS_IT_IS: disp,
        "half values": 2 * disp,
        "double values": disp / 2,
        "millimetres": disp / _column(disp, list(task.spacing_mm)),
        "axes reversed": reversed_,
        "first axes swapped": disp[:, [1, 0, 2]],
        "last axes swapped": disp[:, [0, 2, 1]],
        "wrong sign": -disp,
        "normalised": disp * scale,
        "normalised, axes reversed": reversed_ * scale,
        "positions": disp - positions,
        "normalised positions, axes reversed": (reversed_ + 1) * scale - positions,
    }
    if set(task.spacing_mm) == {1.0}:
        del found["millimetres"]
    return found


def mismatches(disp: Field, batch: Batch, task: Task) -> dict[str, float]:
    """Return how badly the images match under each reading of a field.

    Args:
        disp: See ``alternative_conventions``.
        batch: The pair on the half grid.
        task: Likewise.

    Returns:
        Mean squared difference of self-similarity descriptors inside the fixed mask, by name.
    """
    to_own = _column(disp, voxel_ratio(task.shape, disp.shape[2:]))
    fixed, mask = mind_ssc(batch["fixed"], radius=1, dilation=2), batch["fixed_mask"]

    def mismatch(reading: Field) -> float:
        warped = mind_ssc(warp(batch["moving"], reading * to_own), radius=1, dilation=2)
        squares = (warped - fixed).square().mean(dim=1, keepdim=True)
        return float((squares * mask).sum() / mask.sum())

    return {
        name: mismatch(reading) for name, reading in alternative_conventions(disp, task).items()
    }


def likelier_convention(found: Sequence[Mapping[str, float]]) -> str | None:
    """Return the reading under which the images of every pair match clearly better, if any does."""
    best, least = None, 1 - _LEAST_GAIN
    for name in found[0]:
        ratios = [pair[name] / pair[AS_IT_IS] for pair in found]
        if name != AS_IT_IS and max(ratios) < 1 and float(np.mean(ratios)) < least:
            best, least = name, float(np.mean(ratios))
    return best


def convention_warnings(
    path: Path, pairs: Sequence[Pair], reader: PairReader, rules: Rules
) -> list[Problem]:
    """Return a warning if another reading of a submission's fields matches the images better.

    Args:
        path: A submission without format faults.
        pairs: What it registers; a few of them are looked at.
        reader: Reads onto the half grid.
        rules: Of 2021, or current.
    """
    task = reader.task
    submission = open_submission(path, task.folder, rules)
    chosen = pairs[:: max(1, -(-len(pairs) // _PAIRS))]
    found = []
    for pair in chosen:
        disp = _half_field(submission, pair, task, rules)
        batch = reader.read(pair.images_only())
        if float(disp.abs().max()) > 0:
            found.append(mismatches(disp, batch, task))
    name = likelier_convention(found) if found else None
    if name is None:
        return []
    as_it_is, otherwise = (
        float(np.mean([pair[reading] for pair in found])) for reading in (AS_IT_IS, name)
    )
    return [
        Problem(
            where=str(path),
            what=f"looks as if its fields were written with a fault: {name}",
            expected="voxels of the full grid, component c along array axis c, fixed to moving",
            found=f"images that differ by {as_it_is:.4f} as the rules read it, and by "
            f"{otherwise:.4f} if it is a case of: {name} ({len(found)} pairs)",
            remedy=_REMEDIES[name],
        )
    ]


def _half_field(submission: Submission, pair: Pair, task: Task, rules: Rules) -> Field:
    content, where = submission.content(pair), str(submission.member(pair))
    if rules.full_resolution:
        full = torch.from_numpy(read_full_field(content, where, task.shape)).float()[None]
        return resample(full, half_shape(task.shape))
    return torch.from_numpy(read_field(content, where, task.shape)).float()[None]


def _column(like: Field, values: Sequence[float]) -> torch.Tensor:
    return like.new_tensor(values).view(3, 1, 1, 1)
