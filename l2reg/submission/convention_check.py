"""Convention check: warn if the images match better when a field is read in another convention."""

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
from l2reg.wording import quantity

AS_SPECIFIED = "as specified"

_MAX_PAIRS = 4  # pairs that are checked, spread over the list
_MIN_GAIN = 0.1  # fraction of the mismatch that another convention has to remove
_REMEDIES = {
    "half values": "do not halve them: half resolution means fewer samples, not smaller values",
    "double values": "do not double them: values are voxels of the full grid",
    "millimetres": "divide component c by the voxel size along axis c",
    "axes reversed": "reverse the components: number c moves along array axis c",
    "first axes swapped": "swap components 0 and 1",
    "last axes swapped": "swap components 1 and 2",
    "wrong sign": "submit its inverse, which maps from the fixed grid into the moving image",
    "normalised": "multiply component c by (size of axis c - 1) / 2",
    "normalised, axes reversed": "reverse the components, then multiply component c "
    "by (size of axis c - 1) / 2",
    "positions": "subtract the position of every voxel: a submission holds displacements",
    "normalised positions, axes reversed": "this is a sampling grid of torch: subtract the "
    "identity, reverse the components, then multiply component c by (size of axis c - 1) / 2",
}


def alternative_conventions(disp: Field, task: Task) -> dict[str, Field]:
    """Return the field that ``disp`` stands for under each convention it may be written in.

    Args:
        disp: Field as submitted: voxels of the full grid, sampled on the half grid.
        task: Task of the field, with its grid and voxel size.

    Returns:
        Fields in the convention of the rules, by the name of the convention of ``disp``.
        ``AS_SPECIFIED`` is ``disp`` itself. Conventions that are the same for this task are left
        out.
    """
    half_size = _per_axis(disp, [(size - 1) / 2 for size in task.shape])
    ratio = voxel_ratio(disp.shape[2:], task.shape)
    positions = voxel_coords(disp) * _per_axis(disp, ratio)
    reversed_ = disp.flip(1)
    fields = {
        AS_SPECIFIED: disp,
        "half values": 2 * disp,
        "double values": disp / 2,
        "millimetres": disp / _per_axis(disp, list(task.spacing_mm)),
        "axes reversed": reversed_,
        "first axes swapped": disp[:, [1, 0, 2]],
        "last axes swapped": disp[:, [0, 2, 1]],
        "wrong sign": -disp,
        "normalised": disp * half_size,
        "normalised, axes reversed": reversed_ * half_size,
        "positions": disp - positions,
        "normalised positions, axes reversed": (reversed_ + 1) * half_size - positions,
    }
    if set(task.spacing_mm) == {1.0}:
        del fields["millimetres"]
    return fields


def mismatches(disp: Field, batch: Batch, task: Task) -> dict[str, float]:
    """Return the dissimilarity of the images of a pair under each convention of its field.

    Args:
        disp: Field as submitted: voxels of the full grid, sampled on the half grid.
        batch: The pair on the half grid.
        task: Task of the pair, with its grid and voxel size.

    Returns:
        Mean squared difference of MIND-SSC descriptors inside the fixed mask, by the name of the
        convention.
    """
    to_half_voxels = _per_axis(disp, voxel_ratio(task.shape, disp.shape[2:]))
    fixed, mask = mind_ssc(batch["fixed"], radius=1, dilation=2), batch["fixed_mask"]

    def mismatch(field: Field) -> float:
        warped = mind_ssc(warp(batch["moving"], field * to_half_voxels), radius=1, dilation=2)
        squares = (warped - fixed).square().mean(dim=1, keepdim=True)
        return float((squares * mask).sum() / mask.sum())

    return {name: mismatch(field) for name, field in alternative_conventions(disp, task).items()}


def likelier_convention(pair_mismatches: Sequence[Mapping[str, float]]) -> str | None:
    """Return the convention under which the images match clearly better, ``None`` if none does.

    They have to match better in every pair, and by more than 10 % in the mean.

    Args:
        pair_mismatches: Result of ``mismatches`` for each pair.
    """
    best, min_ratio = None, 1 - _MIN_GAIN
    for name in pair_mismatches[0]:
        ratios = [pair[name] / pair[AS_SPECIFIED] for pair in pair_mismatches]
        if name != AS_SPECIFIED and max(ratios) < 1 and float(np.mean(ratios)) < min_ratio:
            best, min_ratio = name, float(np.mean(ratios))
    return best


def convention_warnings(
    path: Path, pairs: Sequence[Pair], reader: PairReader, rules: Rules
) -> list[Problem]:
    """Return a warning if the images match better under another convention of the fields.

    Args:
        path: Path of a submission without format faults.
        pairs: Pairs that the submission registers; at most four of them are checked.
        reader: Reader of the images on the half grid.
        rules: Rules that the submission follows.
    """
    task = reader.task
    submission = open_submission(path, task, pairs, rules)
    checked_pairs = pairs[:: max(1, -(-len(pairs) // _MAX_PAIRS))]
    pair_mismatches = []
    for pair in checked_pairs:
        disp = _half_field(submission, pair, task, rules)
        batch = reader.read(pair.images_only())
        if float(disp.abs().max()) > 0:
            pair_mismatches.append(mismatches(disp, batch, task))
    name = likelier_convention(pair_mismatches) if pair_mismatches else None
    if name is None:
        return []
    specified, alternative = (
        float(np.mean([pair[convention] for pair in pair_mismatches]))
        for convention in (AS_SPECIFIED, name)
    )
    return [
        Problem(
            where=str(path),
            what=f"seems to hold fields in another convention: {name}",
            expected="voxels of the full grid, component c along array axis c, fixed to moving",
            found=f"a mean image difference of {specified:.4f} as specified, and of "
            f"{alternative:.4f} if the convention is: {name} "
            f"({quantity(len(pair_mismatches), 'pair')})",
            remedy=_REMEDIES[name],
        )
    ]


def _half_field(submission: Submission, pair: Pair, task: Task, rules: Rules) -> Field:
    """Return a submitted field on the half grid, in voxels of the full grid."""
    content, where = submission.content(pair), str(submission.member(pair))
    if rules.full_resolution:
        full = torch.from_numpy(read_full_field(content, where, task.shape)).float()[None]
        return resample(full, half_shape(task.shape))
    return torch.from_numpy(read_field(content, where, task.shape)).float()[None]


def _per_axis(like: Field, values: Sequence[float]) -> torch.Tensor:
    """Return three values, one per axis, in a shape that broadcasts to a field."""
    return like.new_tensor(values).view(3, 1, 1, 1)
