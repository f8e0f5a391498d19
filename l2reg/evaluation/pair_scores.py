"""The scores of one field, and their form on disk."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from l2reg.evaluation.volume_change import VolumeChange

LabelValues = Mapping[int, float]


@dataclass(frozen=True)
class PairScores:
    """The scores of one field.

    Attributes:
        pair: Ids, such as ``0438_0439``.
        dsc: Dice coefficient by label; nan where a scan lacks the label.
        hd95_voxels: 95 % Hausdorff distance by label, in voxels as the organisers take it; nan
            likewise, inf where the label vanished when warped.
        hd95_mm: The same in mm.
        assd_mm: Average symmetric surface distance in mm, weighted by area.
        tre_mm: Target registration error of each landmark.
        tre_keypoints_mm: That of each keypoint; empty unless the rules score them.
        change: What the field does to volumes.
        outside: Fraction of voxels that are looked up outside the moving volume.
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
        """Return one number per official metric, and the folds that those hide."""
        return {
            **_known(
                dsc=_mean(self.dsc.values()),
                hd95_voxels=_mean(self.hd95_voxels.values()),
                tre_mm=_mean(self.tre_mm),
                tre_keypoints_mm=_mean(self.tre_keypoints_mm),
            ),
            "sdlogj": self.change.sdlogj,
            "folds": self.change.folds,
        }

    def all_values(self) -> dict[str, float]:
        """Return ``values`` and, beside them, what no official number says."""
        return {
            **self.values(),
            **_known(
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
        """Return the metrics that have a value per label."""
        names = ("dsc", "hd95_voxels", "hd95_mm", "assd_mm")
        return {name: getattr(self, name) for name in names if getattr(self, name)}

    def to_json(self) -> dict[str, Any]:
        """Return everything, nan and inf as strings; ``from_json`` reads it."""
        content: dict[str, Any] = json_ready({**asdict(self), "means": self.all_values()})
        return content


def from_json(content: Mapping[str, Any]) -> PairScores:
    """Return what ``PairScores.to_json`` wrote."""
    fields: dict[str, Any] = {"pair": content["pair"], "outside": float(content["outside"])}
    for name in ("dsc", "hd95_voxels", "hd95_mm", "assd_mm"):
        fields[name] = {int(label): float(value) for label, value in content[name].items()}
    for name in ("tre_mm", "tre_keypoints_mm"):
        fields[name] = [float(value) for value in content[name]]
    change = {name: float(value) for name, value in content["change"].items()}
    return PairScores(**fields, change=VolumeChange(**change))


def json_ready(value: Any) -> Any:
    """Return ``value`` as JSON knows it: keys as strings, nan and inf as strings."""
    if isinstance(value, Mapping):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _mean(values: Iterable[float]) -> float:
    """Return the mean of what is not nan; nan if nothing is."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def _known(**values: float) -> dict[str, float]:
    return {name: value for name, value in values.items() if not math.isnan(value)}
