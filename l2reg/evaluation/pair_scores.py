"""Scores of one pair: every metric of its field, and their form in JSON."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from l2reg.evaluation.volume_change import VolumeChange
from l2reg.io.files import json_number

LabelValues = Mapping[int, float]

OFFICIAL_METRICS = ("dsc", "hd95_voxels", "tre_mm", "tre_keypoints_mm", "sdlogj", "folds")
_METRICS = (*OFFICIAL_METRICS, "hd95_mm", "assd_mm", "folded_volume", "sd_log_det", "det_min",
            "det_max", "outside")  # fmt: skip
_LABEL_METRICS = ("dsc", "hd95_voxels", "hd95_mm", "assd_mm")


@dataclass(frozen=True)
class PairScores:
    """The scores of one field.

    Attributes:
        pair: Name of the pair, its two ids, such as ``0438_0439``.
        dsc: Dice coefficient by label; nan if a scan lacks the label.
        hd95_voxels: 95 % Hausdorff distance by label, in voxels as in the official evaluation; nan
            if a scan lacks the label, inf if warping removed it.
        hd95_mm: 95 % Hausdorff distance by label, in mm.
        assd_mm: Average symmetric surface distance by label, in mm, weighted by area.
        tre_mm: Target registration error of each landmark.
        tre_keypoints_mm: Target registration error of each keypoint; empty unless the rules score
            keypoints.
        change: Statistics of the field's Jacobian determinants.
        outside: Fraction of voxels that are sampled outside the moving volume.
    """

    pair: str
    dsc: LabelValues
    hd95_voxels: LabelValues
    hd95_mm: LabelValues
    assd_mm: LabelValues
    tre_mm: Sequence[float]
    tre_keypoints_mm: Sequence[float]
    change: VolumeChange
    outside: float

    def values(self) -> dict[str, float]:
        """Return one number per official metric, and the fraction of folds, which those hide."""
        return {
            **_drop_nan(
                dsc=_mean(self.dsc.values()),
                hd95_voxels=_mean(self.hd95_voxels.values()),
                tre_mm=_mean(self.tre_mm),
                tre_keypoints_mm=_mean(self.tre_keypoints_mm),
            ),
            "sdlogj": self.change.sdlogj,
            "folds": self.change.folds,
        }

    def all_values(self) -> dict[str, float]:
        """Return ``values`` and the metrics that are not official."""
        return {
            **self.values(),
            **_drop_nan(
                hd95_mm=_mean(self.hd95_mm.values()),
                assd_mm=_mean(self.assd_mm.values()),
                folded_volume=self.change.folded_volume,
            ),
            "sd_log_det": self.change.sd_log_det,
            "det_min": self.change.det_min,
            "det_max": self.change.det_max,
            "outside": self.outside,
        }

    def by_label(self) -> dict[str, LabelValues]:
        """Return the metrics that have one value per label and are not empty."""
        return {name: getattr(self, name) for name in _LABEL_METRICS if getattr(self, name)}

    def to_json(self) -> dict[str, Any]:
        """Return all scores and their means as plain data, which ``from_json`` takes."""
        return {**asdict(self), "means": self.all_values()}


def metric_names(scores: Iterable[PairScores], *, official: bool = True) -> list[str]:
    """Return the metrics of which any pair has a value, in the order of the tables.

    Args:
        scores: Scores of pairs, some of which may lack labels or landmarks.
        official: Whether only the metrics of ``PairScores.values`` are meant.
    """
    known = {name for score in scores for name in score.all_values()}
    return [name for name in (OFFICIAL_METRICS if official else _METRICS) if name in known]


def label_metric_names(scores: Iterable[PairScores]) -> list[str]:
    """Return the metrics by label of which any pair has values."""
    known = {name for score in scores for name in score.by_label()}
    return [name for name in _LABEL_METRICS if name in known]


def scored_labels(scores: Iterable[PairScores]) -> list[int]:
    """Return the labels of which any pair has a Dice coefficient, nan included."""
    return sorted({label for score in scores for label in score.dsc})


def metric_values(scores: Sequence[PairScores], metric: str) -> Float[np.ndarray, " pairs"]:
    """Return the values of one metric by pair; nan for pairs without a value."""
    return np.array([score.all_values().get(metric, math.nan) for score in scores], dtype=float)


def lacking_pairs(scores: Sequence[PairScores], metric: str) -> list[str]:
    """Return the names of the pairs that have no value of a metric."""
    return [score.pair for score in scores if math.isnan(score.all_values().get(metric, math.nan))]


def from_json(content: Mapping[str, Any]) -> PairScores:
    """Return the scores of ``PairScores.to_json``, written and read again."""
    fields: dict[str, Any] = {"pair": content["pair"], "outside": json_number(content["outside"])}
    for name in ("dsc", "hd95_voxels", "hd95_mm", "assd_mm"):
        fields[name] = {int(label): json_number(value) for label, value in content[name].items()}
    for name in ("tre_mm", "tre_keypoints_mm"):
        fields[name] = [json_number(value) for value in content[name]]
    change = {name: json_number(value) for name, value in content["change"].items()}
    return PairScores(**fields, change=VolumeChange(**change))


def _mean(values: Iterable[float]) -> float:
    """Return the mean of the values that are not nan; nan if there are none."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def _drop_nan(**values: float) -> dict[str, float]:
    """Return the values that are not nan, by name."""
    return {name: value for name, value in values.items() if not math.isnan(value)}
