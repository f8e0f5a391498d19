"""Data checks: faults that would end a run late, or silently make its results meaningless."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from l2reg.data.cache import Cache
from l2reg.data.dataset import Dataset
from l2reg.data.header_check import compare_labels_and_masks, compare_pairs
from l2reg.data.pairs import Pair, PointFiles, Scan
from l2reg.data.point_conventions import compare_point_conventions
from l2reg.data.task import Task
from l2reg.io.files import content_digest
from l2reg.io.volumes import read_header, read_image, read_labels, read_mask
from l2reg.problems import InputError, Problem, group_by_kind
from l2reg.wording import quantity

SPACING_TOLERANCE_MM = 1e-3


def check_scans(scans: Iterable[Scan], task: Task, cache: Cache) -> list[Problem]:
    """Return the faults of the files of ``scans``.

    Args:
        scans: Scans whose image, labels and mask are read.
        task: Task, for the shape, voxel size and labels that the files must have.
        cache: Cache of the files without faults; these are not read again until they change.
    """
    files = {
        (path, kind): None  # a dict keeps the order and drops duplicates
        for scan in scans
        for path, kind in ((scan.image, "image"), (scan.labels, "labels"), (scan.mask, "mask"))
        if path is not None
    }
    problems: list[Problem] = []
    for path, kind in tqdm(files, "checking files", disable=None, leave=False):
        problems += _problems_of(partial(_check_file, path, kind, task, cache))
    return problems


def check_points(files: PointFiles | None, task: Task) -> list[Problem]:
    """Return the faults of a pair's keypoints or landmarks."""
    if files is None:
        return []
    return _problems_of(partial(_check_inside, files, task))


def check_pairs(
    pairs: Sequence[Pair], task: Task, cache: Cache, *, prealign: str = "none"
) -> list[Problem]:
    """Return the faults of the files of ``pairs``, point files included.

    Args:
        pairs: Pairs whose files are read.
        task: Task, for the shape, voxel size and labels that the files must have.
        cache: Cache of the files without faults; see ``check_scans``.
        prealign: Method of prealignment. ``mask_centre`` requires the masks of both scans; a search
            requires both or neither.
    """
    scans = [scan for pair in pairs for scan in (pair.fixed, pair.moving)]
    problems = check_scans(scans, task, cache)
    for pair in pairs:
        problems += check_points(pair.keypoints, task) + check_points(pair.landmarks, task)
    if prealign != "none":
        required = prealign == "mask_centre"
        for pair in pairs:
            without = [scan for scan in (pair.fixed, pair.moving) if scan.mask is None]
            if required or len(without) == 1:
                problems += [_missing_mask(scan, prealign) for scan in without]
    return list(dict.fromkeys(problems))


def check_ground_truth(pairs: Sequence[Pair], task: Task) -> list[Problem]:
    """Return the faults of the labels, masks and landmarks with which ``pairs`` are scored.

    Images are not checked, as scoring does not need them.
    """
    cache = Cache(None)
    problems: list[Problem] = []
    for pair in pairs:
        for path, kind in (
            (pair.fixed.labels, "labels"),
            (pair.moving.labels, "labels"),
            (pair.fixed.mask, "mask"),
        ):
            if path is not None:
                problems += _problems_of(partial(_check_file, path, kind, task, cache))
        problems += check_points(pair.landmarks, task)
        if pair.landmarks is None and None in (pair.fixed.labels, pair.moving.labels):
            problems.append(_missing_ground_truth(pair))
    return list(dict.fromkeys(problems))


def check_dataset(dataset: Dataset) -> list[Problem]:
    """Return the faults of a data set: of its scored pairs and of its training set."""
    task, cache = dataset.release.task, Cache(None)
    pairs, training = _scored_pairs(dataset), dataset.training_set
    problems = check_pairs([*pairs, *training.intra_patient], task, cache)
    scored = {scan.image for pair in pairs for scan in (pair.fixed, pair.moving)}
    problems += check_scans([s for s in training.scans if s.image not in scored], task, cache)
    problems += [_duplicate_image(path, scored) for path in training.evaluation_images]
    return list(dict.fromkeys(problems))


def compare_headers(dataset: Dataset) -> list[Problem]:
    """Return warnings about headers that disagree within a data set; see ``header_check``."""
    training = dataset.training_set
    pairs = [*_scored_pairs(dataset), *training.intra_patient]
    return compare_headers_of(pairs, training.scans)


def compare_headers_of(pairs: Sequence[Pair], scans: Sequence[Scan] = ()) -> list[Problem]:
    """Return warnings about headers that disagree within pairs and further scans, one a kind."""
    paired = [scan for pair in pairs for scan in (pair.fixed, pair.moving)]
    return group_by_kind(compare_labels_and_masks([*paired, *scans]) + compare_pairs(pairs))


def compare_points(dataset: Dataset) -> list[Problem]:
    """Return warnings about points in another convention; see ``point_conventions``."""
    pairs = [*_scored_pairs(dataset), *dataset.training_set.intra_patient]
    return compare_point_conventions(pairs, dataset.release.task)


def _scored_pairs(dataset: Dataset) -> list[Pair]:
    """Return the validation pairs, and the test pairs that have at least one image on disk."""
    pairs: list[Pair] = []
    for split in ("val", "test"):
        if dataset.release.split_ids(split) or dataset.pairs is not None:
            pairs += [p for p in dataset.split_pairs(split) if split == "val" or _has_image(p)]
    return pairs


def _problems_of(check: Callable[[], object]) -> list[Problem]:
    """Return the problems of the ``InputError`` that a check raises, if any."""
    try:
        check()
    except InputError as error:
        return list(error.problems)
    return []


def _check_file(path: Path, kind: str, task: Task, cache: Cache) -> None:
    """Check a file, unless the cache has an entry that says that it has no fault."""
    check = {"image": _check_image, "labels": _check_labels, "mask": _check_mask}[kind]

    def passes() -> np.ndarray:
        check(path, task)
        return np.ones(1, dtype=bool)

    labels = max(task.labels, default=0)
    rules = {"checked": kind, "shape": task.shape, "spacing": task.spacing_mm, "labels": labels}
    cache.get(path, rules, passes)


def _check_image(path: Path, task: Task) -> None:
    grid = read_header(path)
    _check_shape(path, grid.shape, task)
    if not np.allclose(grid.spacing_mm, task.spacing_mm, rtol=0, atol=SPACING_TOLERANCE_MM):
        raise InputError(
            Problem(
                where=str(path),
                what="has another voxel size than its task",
                expected=f"{task.spacing_mm} mm, to {SPACING_TOLERANCE_MM} mm (task {task.name})",
                found=f"{tuple(round(size, 4) for size in grid.spacing_mm)} mm",
                remedy="resample the scan, its labels and its mask to the task's grid",
            )
        )
    read_image(path)


def _check_labels(path: Path, task: Task) -> None:
    labels = read_labels(path)
    _check_shape(path, labels.shape, task)
    highest = max(task.labels, default=0)
    if highest and (labels.min() < 0 or labels.max() > highest):
        raise InputError(
            Problem(
                where=str(path),
                what="has labels that its task does not define",
                expected=f"integers from 0 to {highest} (task {task.name})",
                found=f"values from {labels.min()} to {labels.max()}",
                remedy="renumber the labels as the task does, other structures as 0",
            )
        )


def _check_mask(path: Path, task: Task) -> None:
    _check_shape(path, read_mask(path).shape, task)


def _check_shape(path: Path, shape: tuple[int, ...], task: Task) -> None:
    if shape != task.shape:
        raise InputError(
            Problem(
                where=str(path),
                what="has another shape than its task",
                expected=f"{task.shape} voxels (task {task.name})",
                found=f"{shape}",
                remedy="resample the scan, its labels and its mask to the task's grid, or check "
                "data.layout",
            )
        )


def _check_inside(files: PointFiles, task: Task) -> None:
    problems = []
    for side, points in zip(("fixed", "moving"), files.read(), strict=True):
        outside = ((points < 0) | (points > np.array(task.shape) - 1)).any(axis=1)
        if outside.any():
            row = int(np.flatnonzero(outside)[0])
            problems.append(
                Problem(
                    where=", ".join(map(str, files.paths)),
                    what=f"has {side} points outside the volume",
                    expected=f"voxels from 0 to {tuple(n - 1 for n in task.shape)}, counted from 0",
                    found=f"{int(outside.sum())} of {quantity(len(points), 'row')}, the first "
                    f"is row {row + 1}: {tuple(float(x) for x in points[row])}",
                    remedy="store positions in voxels along the array axes, not in millimetres",
                )
            )
    if problems:
        raise InputError(problems)


def _missing_mask(scan: Scan, prealign: str) -> Problem:
    return Problem(
        where=str(scan.image),
        what="has no mask",
        expected=f"a mask file: data.prealign={prealign} aligns the centres of the masks first",
        found="no mask file",
        remedy="download the region-of-interest masks, or set data.prealign=none",
    )


def _missing_ground_truth(pair: Pair) -> Problem:
    return Problem(
        where=f"pair {pair.name}",
        what="cannot be scored",
        expected="labels of both scans, or landmarks",
        found="neither",
        remedy="store them as the challenge's training data does; those of its test set are secret",
    )


def _has_image(pair: Pair) -> bool:
    return pair.fixed.image.is_file() or pair.moving.image.is_file()


def _duplicate_image(path: Path, scored: set[Path]) -> Problem:
    same = [p for p in scored if p.is_file() and content_digest(p) == content_digest(path)]
    return Problem(
        where=str(path),
        what="is in two splits",
        expected="an image that is either trained on or scored",
        found=f"the same bytes as {', '.join(map(str, sorted(same)))}, which is scored",
        remedy="exclude it with data.exclude; else it is trained on without labels and points",
    )
