"""Grid of a pair: every pair of a data set gets the same spacing and size, whatever its scans have.

The axes are those of a scan, in the order and direction that are nearest to right, anterior and
superior, so that voxels of all pairs are oriented alike and slices are not cut obliquely.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float64
from nibabel.orientations import io_orientation

from l2reg.geometry.resize import voxel_ratio
from l2reg.io.headers import Placement
from l2reg.shapes import Shape3, Spacing, WorkingGrid, working_shape
from l2reg.transforms.image_grid import ImageGrid
from l2reg.transforms.world import voxel_map, voxels_to_world

StartPlace = Literal["headers", "centres"]
START_PLACES: tuple[StartPlace, ...] = get_args(StartPlace)

Box = tuple[Float64[np.ndarray, " 3"], Float64[np.ndarray, " 3"]]  # first and last voxel


def scan_grid(
    scan: ImageGrid, shape: Shape3, spacing_mm: Spacing, partner: ImageGrid | None = None
) -> ImageGrid:
    """Return the grid that a scan is put on; it crops or pads the scan evenly on both sides.

    Where the scan is larger than the grid, the middle of what its partner shows as well is kept.
    The first voxel lies at a voxel of the scan, so that nothing is interpolated if the spacings
    agree.

    Args:
        scan: Grid of the scan.
        shape: Shape of the new grid, along its axes to the right, front and top.
        spacing_mm: Its spacing along these axes.
        partner: Grid of a scan that lies at the same position.
    """
    towards_ras = io_orientation(scan.place.affine)
    own_mm = np.linalg.norm(scan.place.affine[:3, :3], axis=0)
    shared = None if partner is None else overlap_box(scan, partner)
    matrix = np.zeros((4, 4))
    matrix[3, 3] = 1.0
    for own_axis, (new_axis, sign) in enumerate(towards_ras):
        axis, last = int(new_axis), scan.shape[own_axis] - 1
        step = sign * spacing_mm[axis] / own_mm[own_axis]
        length = abs(step) * (shape[axis] - 1)
        middle = last / 2
        if shared is not None and length < last:
            middle = (shared[0][own_axis] + shared[1][own_axis]) / 2
        matrix[own_axis, axis] = step
        matrix[own_axis, 3] = np.round(middle - step * (shape[axis] - 1) / 2)
    return ImageGrid(shape, Placement(scan.place.affine @ matrix))


def pair_grids(
    fixed: ImageGrid,
    moving: ImageGrid,
    shape: Shape3,
    spacing_mm: Spacing,
    start: StartPlace,
) -> tuple[ImageGrid, ImageGrid]:
    """Return the grids that the fixed and the moving scan of a pair are put on.

    A voxel of one corresponds to the same voxel of the other before the pair is registered.

    Args:
        fixed: Grid of the fixed scan.
        moving: Grid of the moving scan.
        shape: Shape of both.
        spacing_mm: Spacing of both.
        start: ``headers``: both are one grid, and the scans lie where their headers say.
            ``centres``: each scan has a grid in its own middle, for scans whose headers are of no
            common position.
    """
    if start == "headers":
        grid = scan_grid(fixed, shape, spacing_mm, moving)
        return grid, grid
    return scan_grid(fixed, shape, spacing_mm), scan_grid(moving, shape, spacing_mm)


def working_image_grid(full: ImageGrid, grid: WorkingGrid) -> ImageGrid:
    """Return a working grid with the corners of the full one."""
    shape = working_shape(full.shape, grid)
    scale = np.diag([*voxel_ratio(shape, full.shape), 1.0])
    return ImageGrid(shape, Placement(full.place.affine @ scale))


def overlap_box(scan: ImageGrid, partner: ImageGrid) -> Box | None:
    """Return the box of voxels of a scan that holds what its partner shows; none if they are apart.

    It is the bounding box of the partner, so that it may be larger if that is turned.
    """
    to_scan = voxel_map(partner.place.affine, scan.place.affine)
    corners = np.indices((2, 2, 2)).reshape(3, 8) * (np.array(partner.shape)[:, None] - 1)
    moved = voxels_to_world(to_scan, corners)
    low = np.maximum(moved.min(axis=1), 0.0)
    high = np.minimum(moved.max(axis=1), np.array(scan.shape) - 1.0)
    return (low, high) if bool((low <= high).all()) else None


def overlap_fraction(fixed: ImageGrid, moving: ImageGrid, n_samples: int = 16) -> float:
    """Return the volume that two scans share by their headers, as a fraction of the smaller one."""
    volumes = [
        abs(float(np.linalg.det(g.place.affine[:3, :3]))) * float(np.prod(g.shape))
        for g in (fixed, moving)
    ]
    small, large = (fixed, moving) if volumes[0] <= volumes[1] else (moving, fixed)
    return covered_fraction(small, large, n_samples)


def covered_fraction(scan: ImageGrid, partner: ImageGrid, n_samples: int = 16) -> float:
    """Return the volume of a scan that its partner shows by the headers, as a fraction of it."""
    lines = [(np.arange(n_samples) + 0.5) / n_samples * size - 0.5 for size in scan.shape]
    samples = np.stack(np.meshgrid(*lines, indexing="ij")).reshape(3, -1)
    voxels = voxels_to_world(voxel_map(scan.place.affine, partner.place.affine), samples)
    return float(_inside(voxels, partner.shape).mean())


def _inside(voxels: Float64[np.ndarray, "3 n"], shape: Sequence[int]) -> np.ndarray:
    last = np.array(shape)[:, None] - 0.5
    inside: np.ndarray = np.all((voxels >= -0.5) & (voxels <= last), axis=0)
    return inside
