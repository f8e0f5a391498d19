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
_MIN_EXTENT = 16  # voxels; features look farther than a field of view of fewer
_MIN_SECTION = 32  # voxels along two axes; on coarser grids bodies look convex
_MAX_TESTED = 10_000  # voxels that are tested to lie in the hull, evenly spaced
_SLIVER = 12  # length in voxels
_CROSS = generate_binary_structure(3, 1)
_MIN_END = 0.3  # of the largest section; brains reach 0.1
_MIN_COARSE_END = 0.35  # where a body has few voxels, and its surface looks flat
_MIN_PRISM = 0.9  # an ellipsoid has 0.67, a tilted slice at an end costs little
_MIN_THIN_END = 0.8  # across a few thick slices; the opening rounds an end
_FINE = 64  # voxels of length
_END_DEPTH = 0.015  # of the length, at least a voxel; an end may be slanted or uneven a little
_MAX_ENDS = 12  # planes that are tried, the largest sides of the hull first
_SAME_SIDE = np.cos(np.deg2rad(3))
_MAX_PROJECTED = 50_000  # voxels whose sections are counted, evenly spaced


def field_of_view(image: Float32[np.ndarray, "i j k"]) -> Region:
    """Return the voxels that a scan has data for: all but the padding.

    Padding is one value (-1024, -3024, 0 and others occur) from the corners of the volume up to a
    scanner's circle or the faces of a box. Blank air around a body looks alike, but its outline
    must be compared. They are told apart by shape: a field of view is convex, and ends at two
    parallel planes, by large sections. Where blank air joins the padding, a body that ends at
    planes is cut off there: what lies beyond these planes is padding, and the air beside the body
    is not. A volume with fewer than 32 voxels along two axes counts as seen whole.

    Args:
        image: Intensities of a scan.
    """
    step_i, step_j, step_k = (_STEP if size >= _LARGE else 1 for size in image.shape)
    view = _coarse_view(image[::step_i, ::step_j, ::step_k])
    for axis, size in enumerate(image.shape):
        view = _fill(view, axis, size)
    return view


def _coarse_view(image: Float32[np.ndarray, "i j k"]) -> Region:
    view: Region = np.ones(image.shape, dtype=bool)
    if min(image.shape) < 2 or sorted(image.shape)[1] < _MIN_SECTION:
        return view
    for padding, is_all in _paddings(image):
        content = ~padding
        extents = np.ptp(np.argwhere(content), axis=0) + 1 if content.any() else np.zeros(3)
        if (extents < np.minimum(np.array(content.shape) // 2, _MIN_EXTENT)).any():
            continue
        ends = _ends(content)
        if (_is_prism(content) or _has_opposite(ends)) and _is_convex(content):
            view &= content
        elif is_all:
            view &= _between(ends, view.shape)
    return view if view.mean() <= 1 - _MIN_PADDING else np.ones_like(view)


def _paddings(image: Float32[np.ndarray, "i j k"]) -> Iterator[tuple[Region, bool]]:
    """Yield the voxels of constant value that reach the faces, and whether all such are in it.

    First those of each value that a corner has, if several; then all of them; then all with the
    next such value inside: a scan that was padded before it was turned has two paddings.
    """
    faces = np.ones(image.shape, dtype=bool)
    faces[1:-1, 1:-1, 1:-1] = False
    corners = image[:: image.shape[0] - 1, :: image.shape[1] - 1, :: image.shape[2] - 1]
    regions = [_constant(image, float(value), faces) for value in np.unique(corners)]
    paddings = [region for region in regions if region.any()]
    if len(paddings) > 1:
        yield from ((padding, False) for padding in paddings)
    padding = np.logical_or.reduce([np.zeros_like(faces), *paddings])
    while padding.any():
        yield padding, True
        padding = _wider(image, padding)


def _wider(image: Float32[np.ndarray, "i j k"], padding: Region) -> Region:
    """Return a padding with the common values along it; nothing if none is one of padding."""
    rim = binary_dilation(padding, _CROSS, _SEAM) & ~padding
    values, counts = np.unique(image[rim], return_counts=True)
    common = values[counts > _MIN_COMMON * rim.sum()]
    inner = [_constant(image, float(value), rim) for value in common]
    if not np.any(inner):
        return np.zeros_like(rim)
    wider: Region = ~binary_opening(~np.logical_or.reduce([padding, *inner]), _CROSS, _SEAM)
    return wider


def _constant(image: Float32[np.ndarray, "i j k"], value: float, rim: Region) -> Region:
    """Return the voxels of a value, in regions that reach a rim.

    An opening separates them from voxels of air that happen to have the value; the slivers that it
    removes where a circle comes close to a face are grown again.
    """
    equal = image == value
    if equal.mean() < _MIN_PADDING:
        return np.zeros_like(rim)
    opened = binary_opening(np.pad(equal, 2, mode="edge"), _CROSS)[2:-2, 2:-2, 2:-2]
    parts, _ = label(opened)
    reaching = np.isin(parts, np.setdiff1d(parts[rim], [0]))
    border: Region = binary_dilation(reaching, _CROSS, _SLIVER, mask=equal)
    return border if border.mean() >= _MIN_PADDING else np.zeros_like(border)


def _fill(view: Region, axis: int, size: int) -> Bool[np.ndarray, "p q r"]:
    """Return a view with the voxels that were left out along an axis: seen if those beside are."""
    if size < _LARGE:
        return view
    lower = np.moveaxis(view, axis, 0)
    upper = np.concatenate([lower[1:], lower[-1:]])
    both = np.stack([lower, lower & upper], axis=1).reshape(-1, *lower.shape[1:])
    return np.moveaxis(both[:size], 0, axis)


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


def _ends(content: Region) -> list[tuple[Float64[np.ndarray, "3"], float]]:
    """Return the planes at which a body is cut off: outward normals and offsets in voxels.

    At such a plane the sections of the body, along the normal of a side of its convex hull, end
    while they are still large. Across a few thick slices, that of the silhouette is taken.
    """
    body = binary_opening(content, _CROSS)
    thin = int(np.argmin(body.shape))
    if body.shape[thin] < _MIN_EXTENT:
        beside = tuple({0, 1, 2} - {thin})
        silhouette = body.any(axis=thin, keepdims=True) & body.any(axis=beside, keepdims=True)
        surface = _surface(silhouette)
    else:
        surface = _surface(body)
    if _is_flat(surface):
        return []
    inside = np.argwhere(body)
    inside = inside[:: max(1, len(inside) // _MAX_PROJECTED)]
    ends = []
    for normal in _sides(surface):
        offset = float((surface @ normal).max())
        depths = offset - inside @ normal
        length = float(depths.max())
        sections = np.bincount((depths / max(1, _END_DEPTH * length)).astype(int))
        depth, least = (2, _MIN_END) if length >= _FINE else (1, _MIN_COARSE_END)
        if length < _MIN_EXTENT:
            least = _MIN_THIN_END
        if sections[:depth].max() >= least * sections.max():
            ends.append((normal, offset))
    return ends


def _is_prism(content: Region) -> bool:
    """Tell whether the sections along an axis are alike, but for a tilted slice at an end."""
    extents = np.ptp(np.argwhere(content), axis=0) + 1
    projected = [content.any(axis=axis).sum() for axis in range(3)]
    return bool((content.sum() >= _MIN_PRISM * extents * projected).any())


def _has_opposite(ends: list[tuple[Float64[np.ndarray, "3"], float]]) -> bool:
    """Tell scanner circles and boxes, which have two parallel ends, from a body cut off once."""
    normals = np.array([normal for normal, _ in ends]).reshape(-1, 3)
    return bool((normals @ normals.T < -_SAME_SIDE).any())


def _between(ends: list[tuple[Float64[np.ndarray, "3"], float]], shape: tuple[int, ...]) -> Region:
    """Return the voxels of a volume between planes, but for those across a few thick slices."""
    view = np.ones(shape, dtype=bool)
    i, j, k = np.ogrid[tuple(slice(size) for size in shape)]
    for normal, offset in ends:
        if np.abs(normal) @ shape >= _MIN_EXTENT:
            view &= i * normal[0] + j * normal[1] < offset + 0.5 - k * normal[2]
    return view


def _sides(surface: Int64[np.ndarray, "n 3"]) -> list[Float64[np.ndarray, "3"]]:
    """Return the outward normals of the largest sides of the convex hull of voxels."""
    hull = ConvexHull(surface)
    normals = hull.equations[:, :3]
    corner, second, third = np.moveaxis(hull.points[hull.simplices], 1, 0)
    areas = np.linalg.norm(np.cross(second - corner, third - corner), axis=1)
    left = areas.copy()
    sides: list[tuple[float, Float64[np.ndarray, 3]]] = []
    while left.any():
        side = normals @ normals[left.argmax()] > _SAME_SIDE
        mean = (areas * side) @ normals
        sides.append((float(left @ side), mean / np.linalg.norm(mean)))
        left[side] = 0
    sides.sort(key=lambda side: -side[0])
    return [normal for _, normal in sides[:_MAX_ENDS]]


def _surface(body: Region) -> Int64[np.ndarray, "n 3"]:
    """Return the voxels of a body that have a neighbour outside."""
    return np.argwhere(body & ~binary_erosion(body))


def _is_flat(surface: Int64[np.ndarray, "n 3"]) -> bool:
    return len(surface) == 0 or bool((np.ptp(surface, axis=0) == 0).any())
