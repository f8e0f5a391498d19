"""Transforms that are inverted or written in another form, and how exact the result is."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64

from l2reg.io.headers import Placement
from l2reg.registration.transform_reader import read_transform, transform_path
from l2reg.registration.transform_scans import TransformScans
from l2reg.registration.transform_writer import write_transform
from l2reg.registration.warp_files import check_output
from l2reg.transforms.image_grid import ImageGrid
from l2reg.transforms.world import voxels_to_world
from l2reg.transforms.world_transform import DisplacementMap, WorldTransform

_BOX_MM = 100.0  # half the side of a box about the origin, where an affine map is compared


@dataclass(frozen=True)
class Residual:
    """Distances in mm between where points are and where they should be.

    Attributes:
        mean: Mean distance.
        percentile_99: Distance that 99 % of the points do not exceed.
        maximum: Largest distance.
        compared: Fraction of the points that could be compared.
    """

    mean: float
    percentile_99: float
    maximum: float
    compared: float

    def __str__(self) -> str:
        return (
            f"mean {self.mean:.2g} mm, 99 % below {self.percentile_99:.2g} mm, at most "
            f"{self.maximum:.2g} mm, over {100 * self.compared:.0f} % of the grid"
        )


def convert_file(name: str, out: Path, form: str, scans: TransformScans) -> Residual:
    """Write a transform in another form, and compare what is read from it with the original.

    Args:
        name: Transform, see ``read_transform``.
        out: File to write, see ``write_transform``.
        form: Form of the file.
        scans: The scans that the transform connects; fields lie on the grid of the fixed one.

    Raises:
        InputError: If the transform cannot be read or written.
    """
    check_output(out, [transform_path(name)])
    transform = read_transform(name, scans)
    write_transform(out, transform, form, scans)
    grid = _own_grid(transform, scans)
    again = read_transform(f"{form}:{out}", TransformScans(grid, scans.moving))
    if grid is None:
        points = _points(grid)
        return _residual(again(points), transform(points))
    fields = (each.on_grid(grid).disp_mm.reshape(3, -1) for each in (again, transform))
    return _residual(*fields)


def invert_file(name: str, out: Path, form: str, scans: TransformScans) -> Residual:
    """Write the inverse of a transform, and measure how well it brings fixed points back.

    A field is written on the grid of the moving scan; if that is not known, on one of its own
    spacing and orientation that covers where it leads.

    Args:
        name: Transform, see ``read_transform``.
        out: File to write, see ``write_transform``.
        form: Form of the file.
        scans: The scans that the transform connects.

    Returns:
        The distances from the voxels of the fixed grid to where the transform and then its inverse
        take them, for voxels that stay on both grids.

    Raises:
        InputError: If the transform cannot be read, or its inverse not written.
    """
    check_output(out, [transform_path(name)])
    transform = read_transform(name, scans)
    fixed = _own_grid(transform, scans)
    moving = scans.moving
    if moving is None and fixed is not None:
        moving = covering_grid(fixed, transform)
    write_transform(out, transform.inverse, form, TransformScans(moving, fixed))
    again = read_transform(f"{form}:{out}", TransformScans(moving, fixed))
    points = _points(fixed)
    moved = transform(points)
    inside = transform.contains(points) & again.contains(moved)
    return _residual(again(moved), points, inside)


def covering_grid(fixed: ImageGrid, transform: WorldTransform) -> ImageGrid:
    """Return a grid of the fixed grid's spacing and orientation that covers where it is mapped."""
    affine = fixed.place.affine
    voxels = voxels_to_world(np.linalg.inv(affine), transform(fixed.points()))
    first = np.floor(voxels.min(axis=1))
    i, j, k = (np.ceil(voxels.max(axis=1)) - first).astype(int) + 1
    shifted = affine.copy()
    shifted[:3, 3] = voxels_to_world(affine, first[:, None])[:, 0]
    return ImageGrid((int(i), int(j), int(k)), Placement(shifted))


def _own_grid(transform: WorldTransform, scans: TransformScans) -> ImageGrid | None:
    """Return the grid of the fixed scan, or that of a field before which nothing moves."""
    if scans.fixed is None and transform.steps and isinstance(transform.steps[0], DisplacementMap):
        return transform.steps[0].grid
    return scans.fixed


def _points(grid: ImageGrid | None) -> Float64[np.ndarray, "3 n"]:
    if grid is not None:
        return grid.points()
    return (np.indices((2, 2, 2)).reshape(3, 8) * 2.0 - 1) * _BOX_MM


def _residual(
    found: Float64[np.ndarray, "3 n"],
    expected: Float64[np.ndarray, "3 n"],
    inside: Bool[np.ndarray, " n"] | None = None,
) -> Residual:
    lengths = np.linalg.norm(found - expected, axis=0)
    if inside is None:
        inside = np.ones(len(lengths), dtype=bool)
    lengths = lengths[inside]
    if not lengths.size:
        return Residual(np.nan, np.nan, np.nan, 0.0)
    return Residual(
        float(lengths.mean()),
        float(np.percentile(lengths, 99)),
        float(lengths.max()),
        float(inside.mean()),
    )
