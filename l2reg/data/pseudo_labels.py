"""Pseudo-labels: label maps propagated from other scans or predicted, with a lower loss weight."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from l2reg.data.pairs import Scan
from l2reg.problems import InputError, Problem


@dataclass(frozen=True, kw_only=True)
class PseudoLabels:
    """Folder and weight of pseudo-labels.

    Attributes:
        root: Folder with the structure of the task's folder and label maps under the names of the
            scans, such as ``CTs/img0003_bcv_CT.nii.gz``; ``None`` for no pseudo-labels.
        weight: Weight of pseudo-labels in a loss, in (0, 1]; that of other labels is 1. A pair has
            the lower weight of its two scans.
    """

    root: str | Path | None
    weight: float

    def __post_init__(self) -> None:
        if not 0 < self.weight <= 1:
            raise ValueError(
                f"data.pseudo_labels.weight must be above 0 and at most 1, got {self.weight}"
            )
        if self.root is not None and not Path(self.root).is_dir():
            raise InputError(
                Problem(
                    where=f"data.pseudo_labels.root={self.root}",
                    what="is not a folder",
                    expected="a folder of label maps with the structure of the task's folder",
                    found="no such folder",
                    remedy=f"l2reg propagate-labels --out {self.root}",
                )
            )

    def add_to(self, scan: Scan, folder: Path) -> Scan:
        """Return ``scan`` with its pseudo-labels, if it has no labels and they are available.

        Args:
            scan: Training scan.
            folder: Folder of the task, to which the scan's path is relative.
        """
        if self.root is None or scan.labels is not None:
            return scan
        path = Path(self.root) / scan.image.relative_to(folder)
        return replace(scan, labels=path, label_weight=self.weight) if path.is_file() else scan

    def count(self, scans: Iterable[Scan]) -> int:
        """Return the number of ``scans`` whose labels are pseudo-labels."""
        if self.root is None:
            return 0
        root = Path(self.root)
        return sum(scan.labels is not None and root in scan.labels.parents for scan in scans)
