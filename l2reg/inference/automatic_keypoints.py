"""Make keypoints to train on where a data set has none."""

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
from l2reg.optimisation.correspondences import KeypointMatcher
from l2reg.problems import InputError, Problem


def write_keypoints(data: Dataset, predictor: Predictor) -> dict[Path, int]:
    """Write keypoints for every training pair of one patient that has none, where they belong.

    A pair whose images are scored gets none (docs/decisions/0001); files are never replaced.

    Args:
        data: Its folder is written to.
        predictor: Brings a pair together well enough for the search.

    Returns:
        The number of keypoints by file.

    Raises:
        InputError: If the layout has no place for keypoints, or no pair lacks them.
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
    matcher: KeypointMatcher = task_refinement(data.task.name).points.matcher
    reader = replace(data, prealign="none").reader("full")  # the field has the prealignment
    found = {}
    for pair in tqdm(pairs, "pairs", disable=None):
        batch = to_device(reader.read(pair.images_only()), predictor.device)
        points = np.concatenate(
            [side.cpu().numpy() for side in matcher(batch, predictor.register(pair))], axis=1
        )
        paths = [_path(pair, pattern) for pattern in patterns]
        for path, columns in zip(paths, np.split(points, len(paths), axis=1), strict=True):
            with atomic_write(path) as draft:
                np.savetxt(draft, columns, fmt="%.3f", delimiter=",")
            found[path] = len(points)
    return found


def _path(pair: Pair, pattern: str) -> Path:
    """Return where the layout looks for the keypoints of a pair."""
    return pair.fixed.image.parent.parent / file_name(pattern, pair.fixed.id)


def _nothing_to_do(data: Dataset, n_pairs: int) -> Problem:
    layout = data.release.layout
    return Problem(
        where=f"task {data.task.name}, {data.release.folder}",
        what="has no pair to find keypoints for",
        expected="training pairs of one patient without keypoints, in a layout that has a place "
        "for them",
        found=f"{n_pairs} such pairs, all with keypoints or scored; the layout's keypoints are "
        f"{list(layout.keypoints) or 'nowhere'}",
        remedy="nothing to do, or add training pairs",
    )
