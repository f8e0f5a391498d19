"""Export: write the field of a pair in the form of the 2021 or the current rules."""

from pathlib import Path

from l2reg.data.pairs import Pair
from l2reg.data.task import Task
from l2reg.geometry.resize import resize_field
from l2reg.problems import InputError, Problem
from l2reg.shapes import Field
from l2reg.submission.fields import full_file_name, to_submission, write_field, write_full_field
from l2reg.submission.rules import Rules


def export_field(disp: Field, pair: Pair, task: Task, submission: Path, rules: Rules) -> Path:
    """Write a field under the name and in the form that ``rules`` expect, and return its path.

    Args:
        disp: Field of one pair, in voxels of its own grid, which may have any shape.
        pair: Pair whose ids name the file.
        task: Task of the pair: its full grid, and its folder in a submission of 2021.
        submission: Path of the folder ``submission``.
        rules: Rules of 2021 (half resolution, npz) or current rules (full resolution, nii.gz).
    """
    if rules.full_resolution:
        full = resize_field(disp, task.shape)[0].cpu().numpy()
        return write_full_field(submission, full_file_name(pair, task), full)
    (half,) = to_submission(disp, task.shape)
    return write_field(submission / task.folder, pair.name, half)


def check_grid(task: Task, rules: Rules) -> None:
    """Refuse the current rules for a release whose scans have another shape than the current one.

    Raises:
        InputError: If the shapes differ, as they do for the brain scans of 2021.
    """
    layout = task.layouts.get("current")
    if rules.full_resolution and layout and layout.shape and tuple(layout.shape) != task.shape:
        raise InputError(
            Problem(
                where=f"{rules.name} rules",
                what=f"need the current release of task {task.name}",
                expected=f"scans of {tuple(layout.shape)} voxels, below {layout.folder}",
                found=f"{task.shape} voxels",
                remedy="set data.layout=current, with that release below data.root",
            )
        )
