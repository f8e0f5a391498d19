"""Scans, pairs of them, and the files that belong to them."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from l2reg.io.points import read_points


@dataclass(frozen=True, kw_only=True)
class Scan:
    """One volume of one patient.

    Attributes:
        id: Number in its layout.
        official_id: Number in a 2021 submission.
        modality: Key into ``Task.intensity``.
        image: Its file; where it was looked for if it is missing.
        labels: Segmentation, if there is one.
        mask: Region of interest, if there is one.
        label_weight: How much the labels count in a loss: 1, or less for pseudo-labels.
    """

    id: int
    official_id: int
    modality: str
    image: Path
    labels: Path | None
    mask: Path | None
    label_weight: float = 1.0


@dataclass(frozen=True)
class PointFiles:
    """Corresponding points of a pair: one file of six columns, or two files of three.

    Attributes:
        paths: The file or files, in the order they have on disk.
        reversed: Whether the first three columns belong to the moving scan of the pair.
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
    """A registration problem: bring ``moving`` onto ``fixed``.

    Attributes:
        keypoints: Correspondences to train on, if there are any.
        landmarks: Correspondences to score with, if there are any; no method may read them.
    """

    fixed: Scan
    moving: Scan
    keypoints: PointFiles | None = None
    landmarks: PointFiles | None = None

    @property
    def name(self) -> str:
        """Official ids, fixed first: ``0438_0439``."""
        return f"{self.fixed.official_id:04}_{self.moving.official_id:04}"

    @property
    def name_in_layout(self) -> str:
        """Ids of the layout, which a later release may have numbered anew: ``0395_0396``."""
        return f"{self.fixed.id:04}_{self.moving.id:04}"

    def swapped(self) -> "Pair":
        """Return the same problem the other way round."""
        return Pair(
            fixed=self.moving,
            moving=self.fixed,
            keypoints=_swapped(self.keypoints),
            landmarks=_swapped(self.landmarks),
        )

    def images_only(self) -> "Pair":
        """Return the pair without anything that a score could be computed from."""
        return Pair(
            fixed=replace(self.fixed, labels=None), moving=replace(self.moving, labels=None)
        )


def _swapped(points: PointFiles | None) -> PointFiles | None:
    return None if points is None else replace(points, reversed=not points.reversed)
