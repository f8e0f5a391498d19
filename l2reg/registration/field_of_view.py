"""Field of view of a scan whose file is padded with a constant beyond it."""

import numpy as np
from jaxtyping import Float32
from scipy.ndimage import (
    binary_dilation,
    binary_erosion,
    binary_opening,
    generate_binary_structure,
    label,
)
from scipy.spatial import ConvexHull

from l2reg.data.intensity import Region

_MIN_CONVEX = 0.985  # docs/decisions/0008-padding-is-told-by-its-shape.md
_MIN_PADDING = 0.005  # of the volume; less is a corner of even air
_MIN_PRISM = 0.9  # an ellipsoid has 0.67, a tilted slice at an end costs little
_MIN_EXTENT = 16  # voxels
_MIN_SECTION = 32  # voxels along two axes; on coarser grids bodies look convex
_MAX_TESTED = 10_000  # voxels that are tested to lie in the hull, evenly spaced
_SLIVER = 12  # length in voxels
_CROSS = generate_binary_structure(3, 1)


def field_of_view(image: Float32[np.ndarray, "i j k"]) -> Region:
    """Return the voxels that a scan has data for: all but the padding.

    Padding is one value (-1024, -3024, 0 and others occur) from the corners of the volume up to a
    scanner's circle or the faces of a box. Blank air around a body looks alike, but its outline
    must be compared. It is told apart by shape: a field of view is convex, and has the same
    section in all slices along an axis or reaches two opposite faces of the volume. A volume with
    fewer than 32 voxels along two axes counts as seen whole.

    Args:
        image: Intensities of a scan.
    """
    if min(image.shape) < 2 or sorted(image.shape)[1] < _MIN_SECTION:
        return np.ones(image.shape, dtype=bool)
    view: Region = ~_constant_border(image)
    if 0 < view.mean() <= 1 - _MIN_PADDING and _has_ends(view) and _is_convex(view):
        return view
    return np.ones_like(view)


def _constant_border(image: Float32[np.ndarray, "i j k"]) -> Region:
    """Return the voxels of the commonest corner value in regions that reach a face.

    An opening separates them from voxels of air that happen to have the value; the slivers that it
    removes where a circle comes close to a face are grown again.
    """
    values, counts = np.unique(image[:: image.shape[0] - 1, :: image.shape[1] - 1,
                                     :: image.shape[2] - 1], return_counts=True)  # fmt: skip
    equal = np.pad(image == values[counts.argmax()], 1, mode="edge")
    parts, _ = label(binary_opening(equal, _CROSS)[1:-1, 1:-1, 1:-1])
    faces = [np.unique(np.take(parts, [0, -1], axis)) for axis in range(3)]
    opened = np.isin(parts, np.setdiff1d(np.concatenate(faces), [0]))
    border: Region = binary_dilation(opened, _CROSS, _SLIVER, mask=equal[1:-1, 1:-1, 1:-1])
    return border


def _has_ends(view: Region) -> bool:
    """Tell scanner circles and boxes, which end at planes, from a rounded body.

    Within padding, a field of view of a few voxels is none: features look farther.
    """
    ended = False
    for axis, size in enumerate(view.shape):
        slices = np.flatnonzero(np.moveaxis(view, axis, 0).any(axis=(1, 2)))
        extent = int(slices[-1] - slices[0]) + 1
        if extent < min(size, _MIN_EXTENT):
            return False
        prism = int(view.any(axis=axis).sum()) * extent
        ended = ended or extent == size or int(view.sum()) >= _MIN_PRISM * prism
    return ended


def _is_convex(view: Region) -> bool:
    """Tell whether few voxels beyond ``view`` lie within the convex hull of its voxels."""
    surface = np.argwhere(view & ~binary_erosion(view))
    if (np.ptp(surface, axis=0) == 0).any():
        return False
    faces = ConvexHull(surface).equations  # outward normals and offsets
    beyond = np.argwhere(~view)
    tested = beyond[:: max(1, len(beyond) // _MAX_TESTED)]
    within = (tested @ faces[:, :3].T + faces[:, 3]).max(axis=1) < 1e-6
    voxels = int(view.sum())
    return voxels >= _MIN_CONVEX * (voxels + float(within.mean()) * len(beyond))
