"""Scans, label maps and points of two scans, taken along by a transform between them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Float64

from l2reg.geometry.warp import inside_scan
from l2reg.io.point_tables import read_point_table, write_point_table
from l2reg.io.volumes import read_labels, read_volume, read_voxel_type, write_volume
from l2reg.problems import InputError, Problem, raise_if_any
from l2reg.registration.input_checks import overwrite_problems
from l2reg.registration.transform_reader import read_transform
from l2reg.registration.transform_scans import TransformScans
from l2reg.shapes import Field
from l2reg.transforms.image_grid import ImageGrid
from l2reg.transforms.itk import RAS_TO_LPS
from l2reg.transforms.warped_scan import ScanInterpolation, warp_label_map, write_warped_scan
from l2reg.transforms.world import voxels_to_world
from l2reg.transforms.world_transform import WorldTransform

Coordinates = Literal["ras", "lps", "voxels"]
COORDINATES: tuple[Coordinates, ...] = get_args(Coordinates)


def read_transforms(
    names: Sequence[str], scans: TransformScans, *, inverse: bool
) -> WorldTransform:
    """Return the transform from the first of two scans to the second.

    Args:
        names: Transforms in the order in which a fixed position passes through them, the order of
            ``antsApplyTransforms`` and ``greedy -r``; see ``read_transform``. Several must have
            forms in mm.
        scans: The scan whose positions are mapped, as the fixed one, and the scan that they are
            mapped to.
        inverse: Whether the result is the inverse of what the files say.

    Raises:
        InputError: See ``read_transform``.
    """
    between = scans.swapped if inverse else scans
    if len(names) > 1:
        between = TransformScans(several=True)
    steps = [step for name in names for step in read_transform(name, between).steps]
    transform = WorldTransform(tuple(steps))
    return transform.inverse if inverse else transform


def warp_scan_file(
    source: Path,
    out: Path,
    transform: WorldTransform,
    scans: TransformScans,
    interpolation: ScanInterpolation,
) -> float:
    """Resample a scan once on the reference grid, and return the fraction that lies inside of it.

    Args:
        source: The scan that the transform leads to.
        out: File to write, ``.nii.gz``, in the scan's data type.
        transform: From reference to scan positions.
        scans: The reference, as the fixed one, and the scan.
        interpolation: See ``warp_scan``.

    Raises:
        InputError: If the scan is unreadable, or no voxel of the reference is mapped into it.
    """
    reference, _ = scans.both(str(source))
    scan = read_volume(source)
    disp = _field(transform, reference, scan.affine)
    inside = _check_inside(source, disp, scan.array.shape)
    write_warped_scan(
        out, scan.array, scan.voxel_type, disp, reference.place, interpolation=interpolation
    )
    return inside


def warp_label_file(
    source: Path, out: Path, transform: WorldTransform, scans: TransformScans
) -> float:
    """Resample a label map by the nearest voxel; otherwise as ``warp_scan_file``."""
    reference, moving = scans.both(str(source))
    labels, voxel_type = read_labels(source), read_voxel_type(source)
    disp = _field(transform, reference, moving.place.affine)
    inside = _check_inside(source, disp, labels.shape)
    warped = warp_label_map(labels, disp).astype(np.float32)
    write_volume(out, voxel_type.encode(warped), reference.place, scaling=voxel_type)
    return inside


def warp_point_file(
    source: Path,
    out: Path,
    transform: WorldTransform,
    coordinates: Coordinates,
    scans: TransformScans,
) -> float:
    """Write where the transform moves points, and return the fraction inside of its fields.

    Args:
        source: Table of points, see ``read_point_table``.
        out: File to write, ``.csv``.
        transform: From the points' positions to those that are written.
        coordinates: Of both files: mm along R, A, S or L, P, S, or voxels counted from 0.
        scans: The points' scan, as the fixed one, and the other one; needed for voxels.

    Raises:
        InputError: If the table is unreadable, or a scan is needed that is not known.
    """
    table = read_point_table(source)
    to_ras, from_ras = _frames(coordinates, scans, str(source))
    positions = voxels_to_world(to_ras, table.points.T)
    moved = voxels_to_world(from_ras, transform(positions))
    write_point_table(out, replace(table, points=moved.T.copy()))
    return float(transform.contains(positions).mean())


def check_output(out: Path, inputs: Sequence[Path], suffixes: Sequence[str] = ("",)) -> None:
    """Raise ``InputError`` if an output has another suffix, or would replace an input."""
    problems = overwrite_problems(inputs, [out])
    if not out.name.endswith(tuple(suffixes)):
        problems.append(
            Problem(
                where=str(out),
                what="has a name that does not fit its content",
                expected=" or ".join(suffixes),
                found=out.name,
                remedy=f"--out {out.name.split('.')[0]}{suffixes[0]}",
            )
        )
    raise_if_any(problems)


def check_options(points: bool, reference: Path | None, coordinates: str | None) -> None:
    """Raise ``InputError`` if an option is missing that points, or scans and labels, need."""
    if points and coordinates is None:
        where, expected = "--coordinates", ", ".join(COORDINATES)
        remedy = "--coordinates ras, if the file is in mm as 3D Slicer shows them"
    elif not points and reference is None:
        where, expected, remedy = (
            "--reference",
            "the scan on whose grid it arrives",
            "--reference FIXED",
        )
    else:
        return
    raise InputError(
        Problem(where=where, what="is missing", expected=expected, found="nothing", remedy=remedy)
    )


def _field(
    transform: WorldTransform, reference: ImageGrid, affine: Float[np.ndarray, "4 4"]
) -> Field:
    return torch.from_numpy(transform.voxel_field(reference, affine))[None]


def _check_inside(source: Path, disp: Field, shape: Sequence[int]) -> float:
    inside = float(inside_scan(disp, shape).float().mean())
    if inside == 0:
        raise InputError(
            Problem(
                where=str(source),
                what="has nothing to show on the reference grid",
                expected="a transform from reference positions to positions in this scan",
                found="no voxel of the reference is mapped into the scan",
                remedy="check --reference, the order of the transforms, and --inverse",
            )
        )
    return inside


def _frames(
    coordinates: Coordinates, scans: TransformScans, where: str
) -> tuple[Float64[np.ndarray, "4 4"], Float64[np.ndarray, "4 4"]]:
    """Return the maps from given coordinates to RAS mm, and from RAS mm to those written."""
    if coordinates == "ras":
        return np.eye(4), np.eye(4)
    if coordinates == "lps":
        return RAS_TO_LPS, RAS_TO_LPS
    first, second = scans.both(where)
    return first.place.affine, np.linalg.inv(second.place.affine)
