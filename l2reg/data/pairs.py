"""Scans and pairs of scans, with the files that belong to them."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from l2reg.io.points import read_points
from l2reg.io.scan_source import ScanSource


@dataclass(frozen=True, kw_only=True)
class Scan:
    """One volume of one patient.

    Attributes:
        id: Number of the scan in its layout.
        official_id: Number of the scan in a 2021 submission.
        modality: Modality, a key of ``Task.intensity``.
        image: Image file; its expected path if it is missing.
        labels: Segmentation file, if available.
        mask: File of the region of interest, if available.
        label_weight: Weight of the labels in a loss: 1, or less for pseudo-labels.
        subject: Whose scan it is, where the id does not tell.
        volume: Which of several volumes of the image file it is, counted from 0.
        channels: Further channels of the scan, such as T2 beside T1.
    """

    id: int
    official_id: int
    modality: str
    image: Path
    labels: Path | None
    mask: Path | None
    label_weight: float = 1.0
    subject: str | None = None
    volume: int | None = None
    channels: tuple[ScanSource, ...] = ()

    @property
    def each_channel(self) -> list["Scan"]:
        """The scan and its further channels, as scans of one channel without labels and masks.

        The n-th further channel of the modality ``fixed`` has the modality ``fixed_channel_n``.
        """
        first = replace(self, labels=None, mask=None, channels=())
        return [first] + [
            replace(first, image=source.path, volume=source.volume, modality=modality)
            for source, modality in zip(
                self.channels,
                channel_modalities(self.modality, len(self.channels)),
                strict=True,
            )
        ]

    @property
    def source(self) -> ScanSource:
        """Where its image comes from."""
        return ScanSource(self.image, self.volume)

    def is_of_same_patient(self, other: "Scan") -> bool:
        """Return whether two scans are of one patient: of one subject, or one id and folder."""
        if None not in (self.subject, other.subject):
            return self.subject == other.subject
        return self.id == other.id and self.image.parent == other.image.parent


def channel_modalities(modality: str, n_further: int) -> list[str]:
    """Return the keys of ``Task.intensity`` of the further channels of scans of a modality."""
    return [f"{modality}_channel_{n}" for n in range(1, n_further + 1)]


@dataclass(frozen=True)
class PointFiles:
    """Corresponding points of a pair: one file of six columns, or two files of three.

    Attributes:
        paths: File or files; of two, that of the fixed scan comes first, before any swap.
        reversed: Whether the pair is swapped: the first three columns belong to its moving scan.
    """

    paths: tuple[Path, ...]
    reversed: bool = False

    def read(self) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]]:
        """Return the points of the fixed and of the moving scan, in voxels.

        Raises:
            InputError: If a file is missing, is not a table of numbers, or has the wrong columns.
        """
        return read_points(self.paths, reverse=self.reversed)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Registration problem: align the moving scan with the fixed scan.

    Attributes:
        fixed: Fixed scan.
        moving: Moving scan.
        keypoints: Correspondences for training, if available.
        landmarks: Correspondences for scoring, if available; no method may read them.
        given_name: Name of a pair that is not named by the ids of its scans.
    """

    fixed: Scan
    moving: Scan
    keypoints: PointFiles | None = None
    landmarks: PointFiles | None = None
    given_name: str | None = None

    @property
    def name(self) -> str:
        """The name given, else the official ids, the fixed scan first, such as ``0438_0439``."""
        return self.given_name or f"{self.fixed.official_id:04}_{self.moving.official_id:04}"

    @property
    def name_in_layout(self) -> str:
        """Ids in the layout, such as ``0395_0396``; later releases renumber the scans."""
        return f"{self.fixed.id:04}_{self.moving.id:04}"

    def swap(self) -> "Pair":
        """Return the pair with fixed and moving scan exchanged, and its points with them."""
        return replace(
            self,
            fixed=self.moving,
            moving=self.fixed,
            keypoints=_swap_points(self.keypoints),
            landmarks=_swap_points(self.landmarks),
        )

    def images_only(self) -> "Pair":
        """Return the pair without labels, keypoints and landmarks: nothing to score it with."""
        return replace(
            self,
            fixed=replace(self.fixed, labels=None),
            moving=replace(self.moving, labels=None),
            keypoints=None,
            landmarks=None,
        )


def _swap_points(points: PointFiles | None) -> PointFiles | None:
    return None if points is None else replace(points, reversed=not points.reversed)
