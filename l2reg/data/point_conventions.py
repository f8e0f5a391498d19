"""Point conventions: warn if landmarks or keypoints fit their scans better when read otherwise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter, map_coordinates

from l2reg.data.pairs import Pair, PointFiles, Scan
from l2reg.data.task import Task
from l2reg.io.volumes import read_image, read_mask
from l2reg.problems import InputError, Problem
from l2reg.wording import quantity

AS_SPECIFIED = "as specified"
FROM_ONE = "counted from 1"

_RADIUS = 3  # voxels of the cubes that are compared
_MAX_POINTS = 200  # of a file whose cubes are compared, evenly spaced
_MIN_POINTS = 10  # in fewer, a convention is not told from another
_MAX_RATIO = 0.5  # of the mismatch that another convention may leave
_MAX_MISMATCH = 0.3  # from 0 to 2; corresponding points of a pair have about 0.05
_MIN_OUTSIDE = 5  # points outside that must lie inside when they are counted from 1
_MAX_OUTSIDE = 0.2  # fraction of the points outside that may stay there then
_MAX_NAMED = 3  # files that a warning names
_REMEDIES = {
    "axes reversed": "write i, j, k, the array axes, in place of k, j, i",
    "moving scan first": "write the columns of the fixed scan before those of the moving scan",
    "millimetres": "divide the number along each axis by the voxel size",
    FROM_ONE: "subtract 1 from every number",
}

Points = Float[np.ndarray, "n 3"]
PointPair = tuple[Points, Points]


@dataclass(frozen=True)
class PointFit:
    """How well the points of a pair fit its scans, under one convention.

    Attributes:
        mismatch: One minus the mean correlation of the cubes around corresponding points, from 0
            to 2; points outside the volume have no correlation.
        n_outside: Number of points outside of the volume or the mask, of both scans.
        tre_mm: Mean distance of corresponding points before registration.
    """

    mismatch: float
    n_outside: int
    tre_mm: float


def alternative_conventions(points: PointPair, task: Task) -> dict[str, PointPair]:
    """Return the points of a file, in voxels, by the name of the convention it is written in.

    Args:
        points: Points of the fixed and of the moving scan, as the file has them.
        task: Task, for its voxel size.
    """
    (fixed, moving), spacing = points, np.array(task.spacing_mm)
    return {
        AS_SPECIFIED: points,
        "axes reversed": (fixed[:, ::-1], moving[:, ::-1]),
        "moving scan first": (moving, fixed),
        "millimetres": (fixed / spacing, moving / spacing),
        FROM_ONE: (fixed - 1, moving - 1),
    }


def point_fits(pair: Pair, files: PointFiles, task: Task) -> dict[str, PointFit]:
    """Return how well the points of a pair fit its scans, by the name of the convention.

    Args:
        pair: Pair whose images and masks are read.
        files: Its landmarks or keypoints.
        task: Task, for its shape, voxel size and intensities.

    Raises:
        InputError: If a file is missing or unreadable.
    """
    scans = (pair.fixed, pair.moving)
    images = [_smooth_image(scan, task) for scan in scans]
    insides = [_inside(scan, task) for scan in scans]
    fits = {}
    for name, points in alternative_conventions(files.read(), task).items():
        some = slice(None, None, max(1, -(-len(points[0]) // _MAX_POINTS)))
        cubes = [_cubes(image, side[some]) for image, side in zip(images, points, strict=True)]
        outside = [~_lie_within(inside, side) for inside, side in zip(insides, points, strict=True)]
        distances = np.linalg.norm((points[1] - points[0]) * task.spacing_mm, axis=1)
        fits[name] = PointFit(
            mismatch=1 - float(_correlation(*cubes).mean()),
            n_outside=int(np.sum(outside)),
            tre_mm=float(distances.mean()),
        )
    return fits


def likelier_convention(fits: Mapping[str, PointFit]) -> str | None:
    """Return the convention under which the scans match clearly better, ``None`` if none does.

    The points must correspond under it, and less than half of the mismatch be left. Points counted
    from 1 are not told in this way, as cubes one voxel aside match as well.

    Args:
        fits: Result of ``point_fits``.
    """
    name = min(fits, key=lambda each: fits[each].mismatch)
    stated, best = fits[AS_SPECIFIED].mismatch, fits[name].mismatch
    better = best < min(_MAX_MISMATCH, _MAX_RATIO * stated)
    return name if better and name != FROM_ONE else None


def counted_from_one(fits: Sequence[Mapping[str, PointFit]]) -> bool:
    """Tell whether points lie outside of the volume or the mask unless they are counted from 1.

    Args:
        fits: Results of ``point_fits`` for several files.
    """
    stated, from_one = (
        sum(fit[name].n_outside for fit in fits) for name in (AS_SPECIFIED, FROM_ONE)
    )
    return stated >= _MIN_OUTSIDE and from_one <= _MAX_OUTSIDE * stated


def compare_point_conventions(pairs: Sequence[Pair], task: Task) -> list[Problem]:
    """Return a warning for each other convention in which point files seem to be written.

    Files with fewer than ten points, and those that cannot be read, are left out.

    Args:
        pairs: Pairs whose images, masks, landmarks and keypoints are read.
        task: Task, for its shape, voxel size and intensities.
    """
    warnings = []
    for kind in ("landmarks", "keypoints"):
        fits = _fits_of_files(pairs, kind, task)
        names = {files: likelier_convention(fit) for files, fit in fits.items()}
        plain = [files for files, name in names.items() if name is None]
        if counted_from_one([fits[files] for files in plain]):
            names |= dict.fromkeys(plain, FROM_ONE)
        for name in _REMEDIES:
            of_name = [files for files in names if names[files] == name]
            if of_name:
                warnings.append(_warning(kind, name, {files: fits[files] for files in of_name}))
    return warnings


def _fits_of_files(
    pairs: Sequence[Pair], kind: str, task: Task
) -> dict[PointFiles, dict[str, PointFit]]:
    fits: dict[PointFiles, dict[str, PointFit]] = {}
    for pair in pairs:
        files = pair.landmarks if kind == "landmarks" else pair.keypoints
        if files is None or files in fits:
            continue
        try:
            if len(files.read()[0]) >= _MIN_POINTS:
                fits[files] = point_fits(pair, files, task)
        except InputError:
            continue  # told by the checks of files
    return fits


def _smooth_image(scan: Scan, task: Task) -> np.ndarray:
    """Return the normalised image, smoothed against noise; NaN is beyond its volume."""
    smoothed = gaussian_filter(task.intensity[scan.modality](read_image(scan.image)), 1.0)
    return np.pad(smoothed, 1, constant_values=np.nan)


def _inside(scan: Scan, task: Task) -> np.ndarray:
    return np.ones(task.shape, dtype=bool) if scan.mask is None else read_mask(scan.mask)


def _lie_within(inside: np.ndarray, points: Points) -> np.ndarray:
    """Tell which points lie in voxels that are inside."""
    nearest = np.rint(points)
    clipped = np.clip(nearest, 0, np.array(inside.shape) - 1).astype(int)
    within: np.ndarray = (clipped == nearest).all(axis=1) & inside[tuple(clipped.T)]
    return within


def _cubes(image: np.ndarray, points: Points) -> Float[np.ndarray, "n m"]:
    """Return the intensities in a cube around each point; NaN where it leaves the volume."""
    steps = np.indices((2 * _RADIUS + 1,) * 3).reshape(3, -1) - _RADIUS
    positions = points.T[:, :, None] + steps[:, None] + 1  # of the padded image
    cubes: np.ndarray = map_coordinates(image, positions, order=1, cval=np.nan)
    return cubes


def _correlation(
    first: Float[np.ndarray, "n m"], second: Float[np.ndarray, "n m"]
) -> Float[np.ndarray, " n"]:
    """Return the correlation of each pair of cubes where both are in the volume, else 0."""
    both = np.isfinite(first) & np.isfinite(second)
    count = np.maximum(both.sum(axis=1, keepdims=True), 1)
    centred = []
    for cubes in (first, second):
        seen = np.where(both, cubes, 0)
        centred.append(np.where(both, seen - seen.sum(axis=1, keepdims=True) / count, 0))
    squares = np.prod([(cubes**2).sum(axis=1) for cubes in centred], axis=0)
    correlation: np.ndarray = (centred[0] * centred[1]).sum(axis=1) / np.sqrt(squares + 1e-12)
    return correlation


def _warning(kind: str, name: str, fits: Mapping[PointFiles, Mapping[str, PointFit]]) -> Problem:
    paths = [str(path) for files in fits for path in files.paths]
    more = f" and {len(paths) - _MAX_NAMED} more" if len(paths) > _MAX_NAMED else ""
    stated, other = (
        f"a mismatch of {np.mean([fit[each].mismatch for fit in fits.values()]):.3f}, "
        f"{quantity(sum(fit[each].n_outside for fit in fits.values()), 'point')} outside and "
        f"{np.mean([fit[each].tre_mm for fit in fits.values()]):.1f} mm before registration"
        for each in (AS_SPECIFIED, name)
    )
    return Problem(
        where=", ".join(paths[:_MAX_NAMED]) + more,
        what=f"seems to hold {kind} in another convention: {name}",
        expected="voxels along i, j, k, counted from 0, first of the fixed scan",
        found=f"{stated} as specified; {other} if the convention is: {name}",
        remedy=_REMEDIES[name],
    )
