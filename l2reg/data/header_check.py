"""Header check: the positions that the headers of a data set describe, compared with each other.

Registration in the challenge's form reads arrays and ignores positions, so a disagreement does not
change its result. But it tells of files that were stored in another order or moved, whose arrays
may not match.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from jaxtyping import Float

from l2reg.data.pairs import Pair, Scan
from l2reg.io.volumes import read_affine, read_header
from l2reg.problems import InputError, Problem
from l2reg.transforms.world import voxels_to_world
from l2reg.wording import quantity

TOLERANCE_VOXELS = 0.1  # of the labels and the mask of a scan, along its shortest voxel side
PAIR_TOLERANCE_VOXELS = 5.0  # of a pair against the other pairs, along the longest voxel side
N_DEVIATIONS = 5.0  # median absolute deviations of the other pairs
MIN_OTHER_PAIRS = 2  # with fewer, no pair is the odd one out


@dataclass(frozen=True)
class PairDistance:
    """Distance between the positions that the headers of a pair give to the same voxels.

    Attributes:
        pair: Pair of scans.
        distance_mm: Largest distance over the corners of the fixed scan's grid.
        max_spacing_mm: Longest side of the fixed scan's voxels.
    """

    pair: Pair
    distance_mm: float
    max_spacing_mm: float


def compare_labels_and_masks(scans: Iterable[Scan]) -> list[Problem]:
    """Return a warning for every label map and mask that lies elsewhere than its scan.

    Their headers must place the corners of the grid where the scan's header does, to a tenth of a
    voxel. Files that cannot be read, or have another shape, are left to the checks of files.

    Args:
        scans: Scans whose headers are read.
    """
    problems: dict[Path, Problem] = {}
    for scan in scans:
        for path, kind in ((scan.labels, "labels"), (scan.mask, "mask")):
            if path is None or path in problems:
                continue
            distances = _corner_distance_mm(scan.image, path)
            if distances is not None and distances[0] > TOLERANCE_VOXELS * distances[1].min():
                problems[path] = _elsewhere(path, kind, scan.image, distances[0])
    return list(problems.values())


def compare_pairs(pairs: Sequence[Pair]) -> list[Problem]:
    """Return a warning for every pair whose two scans lie farther apart than those of the others.

    The distance of a pair is the largest between the positions that its two headers give to a
    corner of the grid. It is too large if it exceeds the median of the other pairs by five median
    absolute deviations and by five voxels. Pairs that all lie apart by chance differ widely, so
    that none is told.

    Args:
        pairs: Pairs of scans on one grid; at least three, else no header can be the odd one out.
    """
    unique = {(pair.fixed.image, pair.moving.image): pair for pair in pairs}
    distances = [d for d in map(_pair_distance, unique.values()) if d is not None]
    if len(distances) <= MIN_OTHER_PAIRS:
        return []
    problems = []
    for own in distances:
        others = np.array([d.distance_mm for d in distances if d is not own])
        median = float(np.median(others))
        deviation = float(np.median(np.abs(others - median)))
        allowed = max(N_DEVIATIONS * deviation, PAIR_TOLERANCE_VOXELS * own.max_spacing_mm)
        if own.distance_mm > median + allowed:
            problems.append(_apart(own, median, len(others)))
    return problems


def corner_distance_mm(
    first: Float[np.ndarray, "4 4"], second: Float[np.ndarray, "4 4"], shape: Sequence[int]
) -> float:
    """Return the largest distance, in mm, that two affines put between the corners of a grid."""
    corners = np.array(list(product(*((0, size - 1) for size in shape)))).T
    difference = voxels_to_world(first, corners) - voxels_to_world(second, corners)
    return float(np.linalg.norm(difference, axis=0).max())


def _corner_distance_mm(image: Path, other: Path) -> tuple[float, np.ndarray] | None:
    """Return the distance of two files and the voxel size of the first, ``None`` if in doubt."""
    try:
        header = read_header(image)
        if read_header(other).shape != header.shape:
            return None
        distance = corner_distance_mm(read_affine(image), read_affine(other), header.shape)
    except InputError:
        return None
    return distance, np.array(header.spacing_mm)


def _pair_distance(pair: Pair) -> PairDistance | None:
    distances = _corner_distance_mm(pair.fixed.image, pair.moving.image)
    return None if distances is None else PairDistance(pair, distances[0], distances[1].max())


def _elsewhere(path: Path, kind: str, image: Path, distance_mm: float) -> Problem:
    return Problem(
        where=str(path),
        what=f"has a header that disagrees with that of its scan about where the {kind} lie"
        + ("s" if kind == "mask" else ""),
        expected=f"the affine of {image}, to {TOLERANCE_VOXELS} voxels at every corner",
        found=f"corners up to {distance_mm:.4g} mm away",
        remedy="look at both in a viewer: if they match there, reorder the voxels as in the scan "
        "(resample with nearest neighbours), else copy the scan's header",
    )


def _apart(own: PairDistance, median_mm: float, n_others: int) -> Problem:
    return Problem(
        where=str(own.pair.moving.image),
        what="has a header that disagrees with that of its fixed scan about where the scans lie",
        expected=f"about {median_mm:.4g} mm between the corners of both grids, the median of the "
        f"{quantity(n_others, 'other pair')}",
        found=f"corners up to {own.distance_mm:.4g} mm from those of {own.pair.fixed.image}",
        remedy="look at both in a viewer, and correct the header (origin or orientation) that is "
        "wrong, or the order of the voxels",
    )
