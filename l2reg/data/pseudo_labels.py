"""Labels that nobody drew: propagated from other scans, or predicted, and trusted less."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from l2reg.data.pairs import Scan
from l2reg.problems import InputError, Problem


@dataclass(frozen=True, kw_only=True)
class PseudoLabels:
    """Where they lie, and how much they count.

    Attributes:
        root: Folder laid out as the task's, with label maps under the names of the scans, such as
            ``CTs/img0003_bcv_CT.nii.gz``; ``None`` for no pseudo-labels.
        weight: Of such labels in a loss, in (0, 1]; true ones have 1. A pair has the lower weight
            of its two scans.
    """

    root: str | Path | None
    weight: float

    def __post_init__(self) -> None:
        if not 0 < self.weight <= 1:
            raise ValueError(f"weight must be above 0 and at most 1, got {self.weight}")
        if self.root is not None and not Path(self.root).is_dir():
            raise InputError(
                Problem(
                    where=f"data.pseudo_labels.root={self.root}",
                    what="is no folder",
                    expected="label maps in a folder laid out as the task's",
                    found="nothing there",
                    remedy=f"l2reg propagate-labels --out {self.root}",
                )
            )

    def given_to(self, scan: Scan, folder: Path) -> Scan:
        """Return ``scan`` with its pseudo-labels if it lacks labels and there are any.

        Args:
            scan: A scan that may be trained on with labels.
            folder: The task's folder.
        """
        if self.root is None or scan.labels is not None:
            return scan
        path = Path(self.root) / scan.image.relative_to(folder)
        return replace(scan, labels=path, label_weight=self.weight) if path.is_file() else scan

    def count(self, scans: Iterable[Scan]) -> int:
        """Return how many of ``scans`` have labels from here."""
        if self.root is None:
            return 0
        root = Path(self.root)
        return sum(scan.labels is not None and root in scan.labels.parents for scan in scans)
