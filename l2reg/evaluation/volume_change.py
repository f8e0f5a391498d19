"""Volume change of a field: the official SDlogJ, Jacobian determinants, folds and folded volume."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Float64

from l2reg.evaluation.metrics import MaskArray, map_slabs
from l2reg.submission.fields import FullField

OFFICIAL_OFFSET = 3.0  # added to determinants before the logarithm

LARGEST_SAFE_CHANGE = 1 / 2  # of the displacement along an edge of a cell that cannot fold

Logs = Float64[np.ndarray, " _"]
Corner = tuple[int, ...]  # 0 or 1 along each axis
Corners = dict[Corner, np.ndarray]  # displacements ``(3, n)`` of one corner of n cells


@dataclass(frozen=True)
class VolumeChange:
    """Statistics of the Jacobian determinants of one field.

    Attributes:
        sdlogj: The official "SDlogJ": standard deviation of log(determinant **+ 3**), the argument
            clipped to [1e-9, 1e9], two voxels cropped from each side. The 3 hides folds and makes
            the value about four times smaller than the standard deviation of the log determinant.
        sd_log_det: The same standard deviation without the 3.
        folds: Fraction of voxels with a determinant of zero or less, one voxel cropped from each
            side (the others have central differences). The official count, taken after the 3 is
            added, is always 0.
        det_min: Smallest determinant of the voxels that ``folds`` counts.
        det_max: Largest determinant of these voxels.
        folded_volume: Non-diffeomorphic volume (Liu et al. 2024, "On finite difference Jacobian
            computation in deformable image registration"): volume of the tetrahedra between voxel
            centres that the field inverts, as a fraction of the grid's volume; nan if not computed.
    """

    sdlogj: float
    sd_log_det: float
    folds: float
    det_min: float
    det_max: float
    folded_volume: float


def volume_change(
    disp: FullField, mask: MaskArray | None = None, *, tetrahedra: bool = True
) -> VolumeChange:
    """Return statistics of the Jacobian determinants of a field.

    Args:
        disp: Displacement field, in voxels of the full grid. Differences are taken in its
            precision, as in the organisers' code, determinants and sums in float64.
        mask: Voxels of the full grid that count for the two standard deviations; all if ``None``.
        tetrahedra: Whether ``folded_volume`` is computed, which takes longer than everything else.
    """
    if not disp.any():
        return _no_change(mask, tetrahedra)
    i, j, k = disp.shape[1:]
    inner = (i - 2, j - 2, k - 2)  # voxels that have central differences
    statistics = map_slabs(lambda slab: _slab_statistics(disp, mask, slab), inner)
    n_folds, lowest, highest, official, plain = zip(*statistics, strict=True)
    return VolumeChange(
        sdlogj=_sd(official),
        sd_log_det=_sd(plain),
        folds=sum(n_folds) / float(np.prod(inner)),
        det_min=min(lowest),
        det_max=max(highest),
        folded_volume=folded_volume(disp) if tetrahedra else float("nan"),
    )


def _no_change(mask: MaskArray | None, tetrahedra: bool) -> VolumeChange:
    """Return the statistics of the zero field, whose determinants are all 1."""
    sd = 0.0 if mask is None or mask[2:-2, 2:-2, 2:-2].any() else float("nan")
    return VolumeChange(
        sdlogj=sd,
        sd_log_det=sd,
        folds=0.0,
        det_min=1.0,
        det_max=1.0,
        folded_volume=0.0 if tetrahedra else float("nan"),
    )


def folded_volume(disp: FullField) -> float:
    """Return the non-diffeomorphic volume, as a fraction of the grid's volume.

    The cube between eight voxel centres can be divided into five tetrahedra in two ways: one at
    every second corner and one between the other four corners. The volume of the inverted
    tetrahedra is averaged over both divisions.
    """
    i, j, k = disp.shape[1:]
    cells = (i - 1, j - 1, k - 1)
    sixths = map_slabs(
        lambda slab: _folded_sixths(disp[:, slab.start : slab.stop + 1].astype(np.float32)), cells
    )
    return sum(sixths) / 12 / float(np.prod(cells))


def determinants(disp: FullField) -> Float64[np.ndarray, "crop_i crop_j crop_k"]:
    """Return the Jacobian determinants on the grid cropped by one voxel from each side."""
    i, j, k = disp.shape[1:]
    return np.concatenate(map_slabs(lambda slab: _determinants(disp, slab), (i - 2, j - 2, k - 2)))


def _slab_statistics(
    disp: FullField, mask: MaskArray | None, slab: slice
) -> tuple[int, float, float, Logs, Logs]:
    """Return fold count, smallest, largest and two logarithms of the determinants of a slab.

    The logarithms, with and without the official offset, exclude one more voxel from each side and
    voxels outside ``mask``.
    """
    det = _determinants(disp, slab)
    first, last = max(slab.start, 1), min(slab.stop, disp.shape[1] - 3)
    counted = det[first - slab.start : last - slab.start, 1:-1, 1:-1]
    if mask is not None:
        counted = counted[mask[first + 1 : last + 1, 2:-2, 2:-2]]
    official, plain = (
        np.log(np.clip(counted + offset, 1e-9, 1e9)).ravel() for offset in (OFFICIAL_OFFSET, 0.0)
    )
    return int((det <= 0).sum()), float(det.min()), float(det.max()), official, plain


def _determinants(disp: FullField, slab: slice) -> Float64[np.ndarray, "planes crop_j crop_k"]:
    """Return the determinants of a slab of the grid cropped by one voxel from each side.

    Differences are in the precision of ``disp``.
    """
    part, mid = disp[:, slab.start : slab.stop + 2], slice(1, -1)
    ahead = (part[:, 2:, mid, mid], part[:, mid, 2:, mid], part[:, mid, mid, 2:])
    behind = (part[:, :-2, mid, mid], part[:, mid, :-2, mid], part[:, mid, mid, :-2])
    rows = []
    for axis in range(3):
        row = ahead[axis] - behind[axis]
        row *= 0.5
        rows.append(row.astype(np.float64))
        rows[axis][axis] += 1
    return _triple_product(*rows)


def _triple_product(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Return the scalar triple product ``a . (b x c)`` of vectors along the first axis."""
    total: np.ndarray = np.zeros_like(a[0])
    other = np.empty_like(total)
    for x, y, z in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        term = b[y] * c[z]
        np.multiply(b[z], c[y], out=other)
        term -= other
        term *= a[x]
        total += term
    return total


def _folded_sixths(part: np.ndarray) -> float:
    """Return six times the inverted volume of all cells, summed over both divisions."""
    i, j, k = np.nonzero(_may_fold(part))
    corners: Corners = {
        (a, b, c): part[:, i + a, j + b, k + c] for a, b, c in product((0, 1), repeat=3)
    }
    tetrahedra = [_corner_tetrahedron(corners, corner) for corner in corners]
    tetrahedra += [_inner_tetrahedron(corners, odd) for odd in (False, True)]
    return sum(map(_sum_negative, tetrahedra))


def _may_fold(part: np.ndarray) -> np.ndarray:
    """Return which cells may have an inverted tetrahedron.

    A tetrahedron maps by ``I + M``. If no edge of its cell changes by ``LARGEST_SAFE_CHANGE`` or
    more, summed over components, the largest row sum of ``|M|`` is below 1: that of a tetrahedron
    at a corner is the change of an edge; that of an inner one is half the sum of the changes along
    two diagonals, of two edges each. So ``I + t M`` is invertible for all ``t`` from 0 to 1, and
    the determinant of ``I + M`` is above 0.
    """
    change_i, change_j, change_k = (
        np.abs(np.diff(part, axis=1 + axis)).sum(axis=0) for axis in range(3)
    )
    near, far = slice(None, -1), slice(1, None)
    largest: np.ndarray = change_i[:, near, near].copy()
    for a, b in product((near, far), repeat=2):
        for change in (change_i[:, a, b], change_j[a, :, b], change_k[a, b, :]):
            np.maximum(largest, change, out=largest)
    return ~(largest < LARGEST_SAFE_CHANGE)


def _corner_tetrahedron(corners: Corners, corner: Corner) -> np.ndarray:
    """Return six times the signed volume of the tetrahedron at a corner of every cell."""
    edges = []
    for axis in range(3):
        low, high = ((*corner[:axis], end, *corner[axis + 1 :]) for end in (0, 1))
        edge = corners[high] - corners[low]
        edge[axis] += 1
        edges.append(edge)
    return _triple_product(*edges)


def _inner_tetrahedron(corners: Corners, odd: bool) -> np.ndarray:
    """Return six times the signed volume of the inner tetrahedron of every cell.

    Args:
        corners: Displacements of the cells' corners.
        odd: Whether the tetrahedron lies between the corners of odd instead of even index sum.
    """
    low, high = (1, 0) if odd else (0, 1)
    a, b, c, d = (
        corners[corner]
        for corner in ((low, low, low), (high, high, low), (high, low, high), (low, high, high))
    )
    step = -1.0 if odd else 1.0

    def side(corner: np.ndarray, axes: tuple[int, int]) -> np.ndarray:
        edge: np.ndarray = corner - a
        edge[list(axes)] += step
        return edge

    # (1,1,0), (1,0,1), (0,1,1) in this order have the determinant -2
    volume = _triple_product(side(b, (0, 1)), side(c, (0, 2)), side(d, (1, 2)))
    return volume if odd else -volume


def _sum_negative(volumes: np.ndarray) -> float:
    """Return the magnitude of the sum of the negative values; overwrites ``volumes``."""
    return -float(np.minimum(volumes, 0, out=volumes).sum(dtype=np.float64))


def _sd(parts: Sequence[Logs]) -> float:
    """Return the standard deviation (ddof 0) of all values; nan if there are none."""
    values = np.concatenate(parts)
    return float(values.std()) if len(values) else float("nan")
