"""Surface distances weighted by area: robust Hausdorff distance (HD95) and ASSD.

The algorithm is that of DeepMind's ``surface-distance``, which the organisers use. A surface
element lies between eight voxels of which some are inside and some outside; its area is that of the
marching-cubes surface between them. Its distance is that to the nearest element of the other
surface. Distances are computed only at surface elements: short ones by a search of the
neighbourhood, the others by a k-d tree.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, product

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from scipy.spatial import cKDTree

from l2reg.shapes import Spacing

MaskArray = Bool[np.ndarray, "i j k"]
Corner = tuple[int, int, int]

CORNERS: list[Corner] = [(i, j, k) for i, j, k in product((0, 1), repeat=3)]

_SEARCH_RADIUS = 5  # voxels searched around an element before a tree is built


@dataclass(frozen=True)
class SurfaceDistances:
    """Distances from every element of one surface to the other, in ascending order.

    Elements of equal distance are sorted by area, as in the organisers' code, so that sums over
    part of them agree to the last digit.

    Attributes:
        distance: Distance of each element, in the unit of the spacing.
        area: Area of each element, in the squared unit of the spacing.
    """

    distance: Float[np.ndarray, " n"]
    area: Float[np.ndarray, " n"]

    def percentile(self, percent: float) -> float:
        """Return the distance below which ``percent`` of the area lies; inf without a surface."""
        if self.distance.size == 0:
            return float("inf")
        cumulative = np.cumsum(self.area) / np.sum(self.area)
        index = int(np.searchsorted(cumulative, percent / 100))
        return float(self.distance[min(index, self.distance.size - 1)])

    def mean(self) -> float:
        """Return the mean distance, weighted by area; nan without a surface."""
        if self.distance.size == 0:
            return float("nan")
        return float(np.sum(self.distance * self.area) / np.sum(self.area))


def surface_distances(
    first: MaskArray, second: MaskArray, spacing: Spacing
) -> tuple[SurfaceDistances, SurfaceDistances]:
    """Return the distances from the first surface to the second, and from the second to the first.

    If one mask is empty, its list is empty and the distances of the other are infinite. Masks may
    be cropped to a box that contains both.

    Args:
        first: First mask.
        second: Second mask, on the same grid.
        spacing: Voxel size; its unit is the unit of the distances.
    """
    codes = [_neighbour_code(mask) for mask in (first, second)]
    surfaces = [np.flatnonzero((code > 0) & (code < 255)) for code in codes]
    forward = _distances(codes[0], surfaces[0], surfaces[1], spacing)
    backward = _distances(codes[1], surfaces[1], surfaces[0], spacing)
    return forward, backward


def hausdorff(forward: SurfaceDistances, backward: SurfaceDistances, percent: float) -> float:
    """Return the robust Hausdorff distance: a percentile, the larger one of both directions.

    It is inf without a surface. The challenge's HD95 uses a spacing of 1: it is in **voxels**.

    Args:
        forward: Distances from the first surface to the second.
        backward: Distances from the second surface to the first.
        percent: Percentile, 95 for HD95.
    """
    return max(forward.percentile(percent), backward.percentile(percent))


def assd(forward: SurfaceDistances, backward: SurfaceDistances) -> float:
    """Return the average symmetric surface distance (ASSD): the mean over both surfaces' area.

    Args:
        forward: Distances from the first surface to the second.
        backward: Distances from the second surface to the first.
    """
    area = forward.area.sum() + backward.area.sum()
    total = (forward.distance * forward.area).sum() + (backward.distance * backward.area).sum()
    return float(total / area) if area else float("nan")


def _neighbour_code(mask: MaskArray) -> UInt8[np.ndarray, "cells_i cells_j cells_k"]:
    """Return a code of which of the eight voxels around every grid corner are inside, one bit each.

    The grid is padded by ``_SEARCH_RADIUS`` further cells without a surface, so that the
    neighbourhood of every element lies inside it.
    """
    inside = np.pad(mask.view(np.uint8), _SEARCH_RADIUS + 1)
    bars: np.ndarray = inside[:, :, :-1] | inside[:, :, 1:] << 1
    squares: np.ndarray = bars[:, :-1] | bars[:, 1:] << 2
    cubes: np.ndarray = squares[:-1] | squares[1:] << 4
    return cubes


def _distances(
    code: UInt8[np.ndarray, "i j k"],
    elements: Int[np.ndarray, " n"],
    others: Int[np.ndarray, " m"],
    spacing: Spacing,
) -> SurfaceDistances:
    """Return the distance of each surface element to the nearest one of the other surface, sorted.

    Args:
        code: Neighbour codes of the elements' mask.
        elements: Flat indices of the surface elements.
        others: Flat indices of the other surface's elements.
        spacing: Voxel size.
    """
    steps, lengths, first_step = _search_steps(spacing, code.shape)
    is_other = np.zeros(code.size, dtype=bool)
    is_other[others] = True
    nearest = np.full(elements.size, lengths.size)  # index into lengths
    pending = np.arange(elements.size)
    for shell, (begin, end) in enumerate(pairwise(first_step)):
        if pending.size == 0 or others.size == 0:
            break
        positions = elements[pending]
        hits = is_other.take(positions + steps[begin])
        for step in steps[begin + 1 : end]:
            hits |= is_other.take(positions + step)
        nearest[pending[hits]] = shell
        pending = pending[~hits]
    if pending.size:
        tree_distances = _tree_distances(elements[pending], others, code.shape, spacing)
        tree_lengths, nearest[pending] = np.unique(tree_distances, return_inverse=True)
        nearest[pending] += lengths.size
        lengths = np.concatenate([lengths, tree_lengths])
    return _sort_distances(lengths, nearest, code.ravel()[elements], element_areas(spacing))


def _tree_distances(
    elements: Int[np.ndarray, " n"],
    others: Int[np.ndarray, " m"],
    shape: tuple[int, ...],
    spacing: Spacing,
) -> Float[np.ndarray, " n"]:
    """Return the distance of each element to the nearest other one, by a k-d tree, unsorted."""
    if others.size == 0:
        return np.full(elements.size, np.inf)
    element_coords, other_coords = (
        np.stack(np.unravel_index(e, shape), axis=1) for e in (elements, others)
    )
    tree = cKDTree(other_coords * np.array(spacing), balanced_tree=False, compact_nodes=False)
    _, index = tree.query(element_coords * np.array(spacing))
    offset = (element_coords - other_coords[index]) * np.array(spacing)
    distance: np.ndarray = np.sqrt((offset**2).sum(axis=1))
    return distance


def _sort_distances(
    lengths: Float[np.ndarray, " d"],
    nearest: Int[np.ndarray, " n"],
    codes: UInt8[np.ndarray, " n"],
    table: Float[np.ndarray, "256"],
) -> SurfaceDistances:
    """Sort elements by distance, then by area, by counting: both have few different values.

    Args:
        lengths: Possible distances, in ascending order.
        nearest: Index into ``lengths`` of each element.
        codes: Neighbour code of each element.
        table: Area of the surface element of every neighbour code.
    """
    areas, rank = np.unique(table, return_inverse=True)
    counts = np.bincount(nearest * len(areas) + rank[codes])
    bins = np.flatnonzero(counts)
    by_distance, by_area = np.divmod(bins, len(areas))
    return SurfaceDistances(
        np.repeat(lengths[by_distance], counts[bins]), np.repeat(areas[by_area], counts[bins])
    )


@lru_cache(maxsize=256)
def _search_steps(
    spacing: Spacing, shape: tuple[int, ...]
) -> tuple[list[int], Float[np.ndarray, " shells"], list[int]]:
    """Return the steps in a flat array to all cells within the search radius, nearest first.

    Cells at equal distance form a shell.

    Returns:
        The steps; the distance of each shell; the index of the first step of each shell, followed
        by the number of steps.
    """
    offsets = np.array(list(product(range(-_SEARCH_RADIUS, _SEARCH_RADIUS + 1), repeat=3)))
    distance = np.sqrt(((offsets * np.array(spacing)) ** 2).sum(axis=1))
    near = distance <= _SEARCH_RADIUS * min(spacing)
    offsets, distance = offsets[near], distance[near]
    order = np.argsort(distance, kind="stable")
    strides = np.array([shape[1] * shape[2], shape[2], 1])
    lengths, first = np.unique(distance[order], return_index=True)
    return (offsets[order] @ strides).tolist(), lengths, [*first.tolist(), len(order)]


@lru_cache(maxsize=16)
def element_areas(spacing: Spacing) -> Float[np.ndarray, "256"]:
    """Return the area of the marching-cubes surface element of every neighbour code.

    The smaller set of the eight voxels, inside or outside, is divided into groups that are
    connected by edges of the cube. A separate surface cuts off each group, through the midpoints of
    the cube's edges.
    """
    table = np.zeros(256)
    for code in range(1, 255):
        inside = [voxel for bit, voxel in enumerate(CORNERS) if code >> bit & 1]
        smaller = inside if len(inside) <= 4 else [v for v in CORNERS if v not in inside]
        table[code] = sum(_group_area(group, spacing) for group in _connected_groups(smaller))
    return table


def _group_area(group: list[Corner], spacing: Spacing) -> float:
    """Return the area of the surface that cuts off a connected group of one to four voxels.

    The surface of three voxels, and of four in a zigzag, is not flat; its triangles are those of
    the common marching-cubes table.
    """

    def area(axes: Iterable[int], normal: float) -> float:
        """Return the area of a piece of surface from its normal on a grid of unit spacing.

        The normal has the component ``normal`` along ``axes`` and 0 along the other axes.
        """
        si, sj, sk = spacing
        stretched = np.array([sj * sk, si * sk, si * sj]) * [normal * (a in axes) for a in range(3)]
        return float(np.linalg.norm(stretched))

    corner = area(range(3), 1 / 8)
    flat = [axis for axis in range(3) if len({voxel[axis] for voxel in group}) == 1]
    if len(group) == 1:
        return corner
    if len(group) == 2:  # a bar: a rectangle along it
        return 2 * area(flat, 1 / 4)
    if len(group) == 3:  # an angle
        return area(flat, 1 / 2) + 3 * corner
    if flat:  # a square
        return area(flat, 1.0)
    inner = [voxel for voxel in group if len(_edge_neighbours(voxel, group)) > 1]
    if len(inner) == 1:  # a corner with its three neighbours: a hexagon
        return 6 * corner
    (along,) = (axis for axis in range(3) if inner[0][axis] != inner[1][axis])
    others = [axis for axis in range(3) if axis != along]
    return 4 * corner + sum(area((along, axis), 1 / 4) for axis in others)  # a zigzag


def _edge_neighbours(voxel: Corner, others: list[Corner]) -> list[Corner]:
    """Return those of ``others`` that share an edge of the cube with ``voxel``."""
    return [o for o in others if sum(a != b for a, b in zip(voxel, o, strict=True)) == 1]


def _connected_groups(voxels: list[Corner]) -> list[list[Corner]]:
    """Return the groups of voxels that are connected by edges of the cube."""
    groups: list[list[Corner]] = []
    for voxel in voxels:
        touching = [group for group in groups if _edge_neighbours(voxel, group)]
        rest = [group for group in groups if group not in touching]
        groups = [*rest, [voxel, *(v for group in touching for v in group)]]
    return groups
