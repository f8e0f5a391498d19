"""Telling label maps from scans, whose intensities may be interpolated."""

import numpy as np
from jaxtyping import Shaped

_N_SLICES = 8
_MAX_LABELS = 200
_MIN_INTENSITIES = 50
_MIN_ALIKE = 0.5  # fraction of neighbours


def is_label_map(array: Shaped[np.ndarray, "i j k"]) -> bool:
    """Return whether a volume looks like a label map: few whole numbers, in regions of one value.

    A few slices are looked at. The background, 0, does not count: scans are black there as well.
    """
    slices = _slices(array)
    values = np.unique(slices)
    if not np.isfinite(values).all() or not np.array_equal(values, values.round()):
        return False
    if values.min() < 0 or values.max() == 0 or len(values) > _MAX_LABELS:
        return False
    return _are_neighbours_alike(slices)


def is_scan(array: Shaped[np.ndarray, "i j k"]) -> bool:
    """Return whether a volume of whole numbers looks like a scan: some negative, or no regions.

    Atlases of many hundred labels consist of regions of one value, scans do not.
    """
    slices = _slices(array)
    values = np.unique(slices)
    if values.min() < 0:
        return True
    return len(values) > _MIN_INTENSITIES and not _are_neighbours_alike(slices)


def _slices(array: Shaped[np.ndarray, "i j k"]) -> Shaped[np.ndarray, "i j n"]:
    step = max(1, array.shape[2] // _N_SLICES)
    slices: np.ndarray = array[:, :, step // 2 :: step]
    return slices


def _are_neighbours_alike(slices: Shaped[np.ndarray, "i j n"]) -> bool:
    """Return whether most neighbours along the first axis that are not 0 have the same value."""
    first, second = slices[:-1], slices[1:]
    labelled = (first > 0) & (second > 0)
    return bool(labelled.any()) and bool((first == second)[labelled].mean() > _MIN_ALIKE)
