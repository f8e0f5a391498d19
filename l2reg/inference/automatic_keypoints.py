"""Automatic keypoints: find corresponding points of training pairs that have none."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from l2reg.batch import to_device
from l2reg.data.dataset import Dataset
from l2reg.data.layouts import file_name
from l2reg.data.pairs import Pair
from l2reg.inference.predictor import Predictor
from l2reg.inference.prepare import task_refinement
from l2reg.io.files import atomic_write
from l2reg.problems import InputError, Problem
from l2reg.wording import quantity


def write_keypoints(data: Dataset, predictor: Predictor) -> dict[Path, int]:
    """Write keypoints into the data folder for every intra-patient training pair without any.

    A pair whose images are scored gets none (docs/decisions/0001); files are never replaced.

    Args:
        data: The data set; its folder is written to.
        predictor: The method that registers each pair first; the matcher searches around its field.

    Returns:
        The number of keypoints by file.

    Raises:
        InputError: If the layout has no keypoint files, or all pairs have keypoints or are scored.
    """
    training = data.training_set
    scored = set(training.evaluation_images)
    pairs = [
        pair
        for pair in training.intra_patient
        if pair.keypoints is None and not {pair.fixed.image, pair.moving.image} & scored
    ]
    patterns = data.release.layout.keypoints
    if not patterns or not pairs:
        raise InputError(_nothing_to_do(data, len(training.intra_patient)))
    matcher = task_refinement(data.task.name).points.matcher
    reader = replace(data, prealign="none").reader("full")  # the field includes the prealignment
    n_points = {}
    for pair in tqdm(pairs, "pairs", disable=None):
        batch = to_device(reader.read(pair.images_only()), predictor.device)
        points = np.concatenate(
            [side.cpu().numpy() for side in matcher(batch, predictor.register(pair))], axis=1
        )
        paths = [_path(pair, pattern) for pattern in patterns]
        for path, columns in zip(paths, np.split(points, len(paths), axis=1), strict=True):
            with atomic_write(path) as temporary:
                np.savetxt(temporary, columns, fmt="%.3f", delimiter=",")
            n_points[path] = len(points)
    return n_points


def _path(pair: Pair, pattern: str) -> Path:
    """Return the path of the keypoint file of a pair in the layout."""
    return pair.fixed.image.parent.parent / file_name(pattern, pair.fixed.id)


def _nothing_to_do(data: Dataset, n_pairs: int) -> Problem:
    layout = data.release.layout
    return Problem(
        where=f"task {data.task.name}, {data.release.folder}",
        what="has no pair to find keypoints for",
        expected="intra-patient training pairs without keypoints, in a layout with keypoint files",
        found=f"{quantity(n_pairs, 'intra-patient pair')}, all with keypoints or scored; keypoint "
        f"layout: {', '.join(layout.keypoints) or 'none'}",
        remedy="add training pairs; if all pairs have keypoints, there is nothing to do",
    )
