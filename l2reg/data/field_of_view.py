"""Field of view of a scan whose file is padded with a constant beyond it."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from scipy.ndimage import (
    binary_dilation,
    binary_erosion,
    binary_opening,
    generate_binary_structure,
    label,
)
from scipy.spatial import ConvexHull

from l2reg.data.intensity import Region

_STEP = 2  # voxels; every other one is looked at
_LARGE = 128  # voxels along an axis of which some are left out
_MIN_COMMON = 0.1  # of the values at the rim of what may be padding
_SEAM = 3  # voxels of interpolated values between them
_MIN_CONVEX = 0.985  # docs/decisions/0008-padding-is-told-by-its-shape.md
_MIN_PADDING = 0.005  # of the volume; less is a corner of even air
_MIN_PRISM = 0.9  # an ellipsoid has 0.67, a tilted slice at an end costs little
_MIN_EXTENT = 16  # voxels
_MIN_SECTION = 32  # voxels along two axes; on coarser grids bodies look convex
_MAX_TESTED = 10_000  # voxels that are tested to lie in the hull, evenly spaced
_SLIVER = 12  # length in voxels
_CROSS = generate_binary_structure(3, 1)
_MIN_END = 0.3  # of the largest section; brains reach 0.1
_MIN_COARSE_END = 0.35  # where a body has few voxels, and its surface looks flat
_FINE = 64  # voxels of length
_END_DEPTH = 0.015  # of the length, at least a voxel; an end may be slanted or uneven a little
_MAX_ENDS = 12  # planes that are tried, the largest sides of the hull first
_SAME_SIDE = np.cos(np.deg2rad(3))
_MAX_PROJECTED = 50_000  # voxels whose sections are counted, evenly spaced


def field_of_view(image: Float32[np.ndarray, "i j k"]) -> Region:
    """Return the voxels that a scan has data for: all but the padding.

    Padding is one value (-1024, -3024, 0 and others occur) from the corners of the volume up to a
    scanner's circle or the faces of a box. Blank air around a body looks alike, but its outline
    must be compared. They are told apart by shape: a field of view is convex, and has the same
    section in all slices along an axis or reaches two opposite faces of the volume. Where blank air
    joins the padding, a body that ends at planes, by large sections, is cut off there: what lies
    beyond these planes is padding, and the air beside the body is not. A volume with fewer than 32
    voxels along two axes counts as seen whole.

    Args:
        image: Intensities of a scan.
    """
    step_i, step_j, step_k = (_STEP if size >= _LARGE else 1 for size in image.shape)
    view = _coarse_view(image[::step_i, ::step_j, ::step_k])
    for axis, size in enumerate(image.shape):
        view = _fill(view, axis, size)
    return view


def _coarse_view(image: Float32[np.ndarray, "i j k"]) -> Region:
    if min(image.shape) < 2 or sorted(image.shape)[1] < _MIN_SECTION:
        return np.ones(image.shape, dtype=bool)
    view: Region = np.ones(image.shape, dtype=bool)
    convex = False
    for padding in _paddings(image):
        content = ~padding
        if content.all() or not content.any():
            break
        if _has_ends(content) and _is_convex(content):
            view, convex = content, True
        elif not convex:  # else what has the same value inside is air
            view &= _between_ends(content)
    return view if view.mean() <= 1 - _MIN_PADDING else np.ones_like(view)


def _paddings(image: Float32[np.ndarray, "i j k"]) -> Iterator[Region]:
    """Yield the voxels of constant value along the faces, then with the next such value inside.

    A scan that was padded before it was turned has two paddings, one inside the other.
    """
    rim = np.ones(image.shape, dtype=bool)
    rim[1:-1, 1:-1, 1:-1] = False
    corners = image[:: image.shape[0] - 1, :: image.shape[1] - 1, :: image.shape[2] - 1]
    outer = _constant(image, corners.ravel(), rim)
    yield outer
    rim = binary_dilation(outer, _CROSS, _SEAM) & ~outer
    inner = _constant(image, image[rim], rim)
    if inner.any():
        yield ~binary_opening(~(outer | inner), _CROSS, _SEAM)


def _constant(
    image: Float32[np.ndarray, "i j k"], values: Float32[np.ndarray, "n"], rim: Region
) -> Region:
    """Return the voxels of the commonest of some values, in regions that reach a rim.

    An opening separates them from voxels of air that happen to have the value; the slivers that it
    removes where a circle comes close to a face are grown again. A value that is not common there,
    or nowhere else, is none of padding.
    """
    different, counts = np.unique(values, return_counts=True)
    if counts.max(initial=0) <= _MIN_COMMON * len(values):
        return np.zeros_like(rim)
    equal = np.pad(image == float(different[counts.argmax()]), 1, mode="edge")
    parts, _ = label(binary_opening(equal, _CROSS)[1:-1, 1:-1, 1:-1])
    opened = np.isin(parts, np.setdiff1d(parts[rim], [0]))
    border: Region = binary_dilation(opened, _CROSS, _SLIVER, mask=equal[1:-1, 1:-1, 1:-1])
    return border if border.mean() >= _MIN_PADDING else np.zeros_like(border)


def _fill(view: Region, axis: int, size: int) -> Bool[np.ndarray, "p q r"]:
    """Return a view with the voxels that were left out along an axis: seen if those beside are."""
    if size < _LARGE:
        return view
    lower = np.moveaxis(view, axis, 0)
    upper = np.concatenate([lower[1:], lower[-1:]])
    both = np.stack([lower, lower & upper], axis=1).reshape(-1, *lower.shape[1:])
    return np.moveaxis(both[:size], 0, axis)


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
    surface = _surface(view)
    if _is_flat(surface):
        return False
    faces = ConvexHull(surface).equations  # outward normals and offsets
    beyond = np.argwhere(~view)
    tested = beyond[:: max(1, len(beyond) // _MAX_TESTED)]
    within = (tested @ faces[:, :3].T + faces[:, 3]).max(axis=1) < 1e-6
    voxels = int(view.sum())
    return voxels >= _MIN_CONVEX * (voxels + float(within.mean()) * len(beyond))


def _between_ends(content: Region) -> Region:
    """Return the voxels between the planes at which a body is cut off; all if there are none.

    At such a plane the sections of the body, along the normal of a side of its convex hull, end
    while they are still large.
    """
    view = np.ones_like(content)
    body = binary_opening(content, _CROSS)
    surface = _surface(body)
    if _is_flat(surface):
        return view
    inside = np.argwhere(body)
    inside = inside[:: max(1, len(inside) // _MAX_PROJECTED)]
    i, j, k = np.ogrid[tuple(slice(size) for size in content.shape)]
    for normal in _sides(surface):
        end = float((surface @ normal).max())
        depths = end - inside @ normal
        length = float(depths.max())
        if length < _MIN_EXTENT:
            return np.ones_like(content)
        sections = np.bincount((depths / max(1, _END_DEPTH * length)).astype(int))
        depth, least = (2, _MIN_END) if length >= _FINE else (1, _MIN_COARSE_END)
        if sections[:depth].max() >= least * sections.max():
            view &= i * normal[0] + j * normal[1] < end + 0.5 - k * normal[2]
    return view


def _sides(surface: Int64[np.ndarray, "n 3"]) -> list[Float64[np.ndarray, "3"]]:
    """Return the outward normals of the largest sides of the convex hull of voxels."""
    hull = ConvexHull(surface)
    normals = hull.equations[:, :3]
    corner, second, third = np.moveaxis(hull.points[hull.simplices], 1, 0)
    areas = np.linalg.norm(np.cross(second - corner, third - corner), axis=1)
    left = areas.copy()
    sides: list[Float64[np.ndarray, 3]] = []
    while left.any() and len(sides) < _MAX_ENDS:
        side = normals @ normals[left.argmax()] > _SAME_SIDE
        mean = (areas * side) @ normals
        sides.append(mean / np.linalg.norm(mean))
        left[side] = 0
    return sides


def _surface(body: Region) -> Int64[np.ndarray, "n 3"]:
    """Return the voxels of a body that have a neighbour outside."""
    return np.argwhere(body & ~binary_erosion(body))


def _is_flat(surface: Int64[np.ndarray, "n 3"]) -> bool:
    return len(surface) == 0 or bool((np.ptp(surface, axis=0) == 0).any())
