"""Score fields against what is known of a pair, and sum up over pairs, by the 2021 rules."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from l2reg.data.cases import Pair
from l2reg.data.task import Task
from l2reg.data.volumes import read_labels, read_mask, read_points
from l2reg.evaluation.metrics import (
    FullField,
    Labels,
    MaskArray,
    PointsArray,
    determinant,
    dice,
    sdlogj,
    tre_mm,
    upsample,
    warp_labels,
)
from l2reg.evaluation.surface_distance import hd95
from l2reg.problems import InputError, Problem
from l2reg.submission.bundle import Submission


@dataclass(frozen=True)
class Truth:
    """What a pair is scored with.

    Attributes:
        labels: Label maps of the fixed and the moving scan.
        landmarks: Corresponding voxels of the fixed and the moving scan.
        mask: Voxels that count for SDlogJ, all if ``None``.
    """

    labels: tuple[Labels, Labels] | None
    landmarks: tuple[PointsArray, PointsArray] | None
    mask: MaskArray | None


@dataclass(frozen=True)
class PairScores:
    """The scores of one field.

    Attributes:
        pair: Official ids, such as ``0438_0439``.
        dsc: Dice coefficient by label; nan where a scan lacks the label.
        hd95_voxels: 95 % Hausdorff distance by label in voxels; nan likewise, inf where the label
            vanished when warped.
        tre_mm: Target registration error of each landmark.
        sdlogj: Official "SDlogJ".
        folds: Fraction of voxels whose raw determinant is zero or negative; the official count
            is always 0.
        det_range: Smallest and largest raw determinant.
    """

    pair: str
    dsc: Mapping[int, float]
    hd95_voxels: Mapping[int, float]
    tre_mm: Sequence[float]
    sdlogj: float
    folds: float
    det_range: tuple[float, float]

    def values(self) -> dict[str, float]:
        """Return one number per metric: means over the labels and landmarks there are."""
        means = {
            "dsc": _mean(self.dsc.values()),
            "hd95_voxels": _mean(self.hd95_voxels.values()),
            "tre_mm": _mean(self.tre_mm),
        }
        known = {name: value for name, value in means.items() if value is not None}
        return {**known, "sdlogj": self.sdlogj, "folds": self.folds}


def load_truth(pair: Pair, task: Task) -> Truth:
    """Read what a pair can be scored with.

    Raises:
        InputError: If a file is unreadable.
    """
    both = pair.fixed.labels and pair.moving.labels and task.labels
    masked = task.sdlogj_in_mask and pair.fixed.mask
    return Truth(
        labels=(read_labels(pair.fixed.labels), read_labels(pair.moving.labels))  # type: ignore[arg-type]
        if both
        else None,
        landmarks=read_points(pair.landmarks) if pair.landmarks else None,
        mask=read_mask(pair.fixed.mask) if masked and pair.fixed.mask else None,
    )


def can_be_scored(pair: Pair, task: Task) -> bool:
    """Return whether a pair has labels on both sides, or landmarks."""
    labels = bool(task.labels) and None not in (pair.fixed.labels, pair.moving.labels)
    return labels or pair.landmarks is not None


def score_field(
    pair_name: str, disp: FullField, truth: Truth, task: Task, *, surfaces: bool = True
) -> PairScores:
    """Score one field.

    Args:
        pair_name: Official ids.
        disp: Voxels of the full grid; a submission is up-sampled first (``metrics.upsample``).
        truth: What to score with.
        task: Labels and voxel size.
        surfaces: Whether HD95 is computed, which takes longer than all the rest.
    """
    dsc: dict[int, float] = {}
    distances: dict[int, float] = {}
    if truth.labels is not None:
        fixed, moving = truth.labels
        warped = warp_labels(moving, disp)
        common = (set(np.unique(fixed)) & set(np.unique(moving))) - {0}
        scored = [label for label in task.labels if label in common]
        skipped = {label: math.nan for label in task.labels if label not in common}
        dsc = {**dice(fixed, warped, scored), **skipped}
        if surfaces:
            distances = {label: hd95(fixed == label, warped == label) for label in scored}
            distances |= skipped
    errors: Sequence[float] = ()
    if truth.landmarks is not None:
        errors = [float(e) for e in tre_mm(disp, *truth.landmarks, task.voxel_mm)]
    det = determinant(disp)
    return PairScores(
        pair=pair_name,
        dsc=dict(sorted(dsc.items())),
        hd95_voxels=dict(sorted(distances.items())),
        tre_mm=errors,
        sdlogj=sdlogj(det, truth.mask),
        folds=float((det <= 0).mean()),
        det_range=(float(det.min()), float(det.max())),
    )


def score_zero_field(pair: Pair, task: Task) -> PairScores:
    """Score a pair without registration."""
    zero = np.zeros((3, *task.grid), dtype=np.float32)
    return score_field(pair.name, zero, load_truth(pair, task), task)


def score_submission(submission: Submission, pairs: Sequence[Pair], task: Task) -> list[PairScores]:
    """Score every pair of a submission; one field is in memory at a time.

    Raises:
        InputError: If fields are missing (all are named), or one is not as it must be.
    """
    missing = submission.missing(pair.name for pair in pairs)
    if missing:
        raise InputError(
            Problem(
                where=str(submission.path),
                what="lacks fields; the organisers refuse it as a whole",
                expected=f"{len(pairs)} fields in {task.folder}",
                found=f"{len(missing)} missing: {', '.join(missing)}",
                remedy="predict the missing pairs, or score another list with data.pairs=FILE",
            )
        )
    scores = []
    for pair in tqdm(pairs, f"scoring {submission.path.name}", disable=None, leave=False):
        field = submission.read(pair.name, task.grid)
        scores.append(score_field(pair.name, upsample(field), load_truth(pair, task), task))
    return scores


def aggregate(scores: Sequence[PairScores]) -> dict[str, dict[str, float]]:
    """Return the official 2021 aggregates of each metric over the pairs.

    ``mean``; ``std`` with ddof 1, nan for one pair; ``30``: the 0.3 quantile of the pair values,
    which is the leaderboard's "DSC30" for the Dice, and the better tail for distances.
    """
    aggregates = {}
    for metric in scores[0].values():
        values = np.array([score.values().get(metric, math.nan) for score in scores])
        finite = bool(np.isfinite(values).all())
        aggregates[metric] = {
            "mean": float(values.mean()),
            "std": float(values.std(ddof=1)) if len(values) > 1 and finite else math.nan,
            "30": _quantile(values, 0.3),
        }
    return aggregates


def as_json(scores: Sequence[PairScores]) -> dict[str, Any]:
    """Return pair values, their details and aggregates; nan and inf as strings."""
    pairs = {
        score.pair: {
            **score.values(),
            "det_min": score.det_range[0],
            "det_max": score.det_range[1],
            "dsc_by_label": {str(label): value for label, value in score.dsc.items()},
            "hd95_voxels_by_label": {str(lb): value for lb, value in score.hd95_voxels.items()},
            "tre_mm_by_landmark": list(score.tre_mm),
        }
        for score in scores
    }
    readable: dict[str, Any] = _readable({"pairs": pairs, "aggregates": aggregate(scores)})
    return readable


def _readable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _readable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_readable(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _mean(values: Iterable[float]) -> float | None:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else None


def _quantile(values: np.ndarray, q: float) -> float:
    """Return the linear quantile; inf only if it falls between infinite values."""
    low, high = np.quantile(values, q, method="lower"), np.quantile(values, q, method="higher")
    position = q * (len(values) - 1) % 1
    return float(low if position == 0 or low == high else low + position * (high - low))
