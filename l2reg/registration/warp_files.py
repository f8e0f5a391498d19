"""Scans, label maps and points of two scans, taken along by a transform between them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import nibabel as nib
import numpy as np
import torch
from jaxtyping import Float, Float64
from tqdm import tqdm

from l2reg.geometry.warp import inside_scan
from l2reg.io.point_tables import read_point_table, write_point_table
from l2reg.io.scan_source import ScanSource
from l2reg.io.volumes import nifti_image, read_labels, read_volume, read_voxel_type
from l2reg.problems import InputError, Problem, raise_if_any
from l2reg.registration.input_checks import overwrite_problems
from l2reg.registration.label_maps import is_label_map, is_scan
from l2reg.registration.transform_reader import read_transform
from l2reg.registration.transform_scans import TransformScans
from l2reg.shapes import Field
from l2reg.transforms.image_grid import ImageGrid
from l2reg.transforms.itk import RAS_TO_LPS
from l2reg.transforms.warped_scan import (
    LABEL_INTERPOLATIONS,
    SCAN_INTERPOLATIONS,
    LabelInterpolation,
    ScanInterpolation,
    fill_value,
    warp_label_map,
    warp_scan,
)
from l2reg.transforms.world import voxels_to_world
from l2reg.transforms.world_transform import WorldTransform

Coordinates = Literal["ras", "lps", "voxels"]
COORDINATES: tuple[Coordinates, ...] = get_args(Coordinates)
_EXACT_MM = 0.1  # error of an inverse that is not worth a word
_N_TRIED = 20_000


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


def resample_scan(
    source: ScanSource,
    transform: WorldTransform,
    scans: TransformScans,
    interpolation: ScanInterpolation,
) -> tuple[nib.Nifti1Image, float]:
    """Return a scan on the reference grid, and the fraction of it that lies inside the scan.

    Args:
        source: The scan that the transform leads to; the result has its data type.
        transform: From reference to scan positions.
        scans: The reference, as the fixed one, and the scan.
        interpolation: See ``warp_scan``.

    Raises:
        InputError: If the scan is unreadable, or no voxel of the reference is mapped into it.
    """
    reference, _ = scans.both(str(source))
    scan = read_volume(source)
    if is_label_map(scan.array):
        tqdm.write(
            f"!!! {source} looks like a label map, whose labels are mixed: --labels keeps them"
        )
    disp = _field(transform, reference, scan.affine)
    inside = _check_inside(source, disp, scan.array.shape)
    fill = fill_value(scan.array, scan.voxel_type)
    warped = scan.voxel_type.encode(warp_scan(scan.array, disp, fill, interpolation))
    return nifti_image(warped, reference.place, scaling=scan.voxel_type), inside


def resample_labels(
    source: ScanSource,
    transform: WorldTransform,
    scans: TransformScans,
    interpolation: LabelInterpolation,
) -> tuple[nib.Nifti1Image, float]:
    """Return a label map on the reference grid (see ``warp_label_map``), as ``resample_scan``."""
    reference, moving = scans.both(str(source))
    labels, voxel_type = read_labels(source), read_voxel_type(source)
    if is_scan(labels):
        tqdm.write(
            f"!!! {source} looks like a scan, whose intensities are not interpolated as labels: "
            "--image does so"
        )
    disp = _field(transform, reference, moving.place.affine)
    inside = _check_inside(source, disp, labels.shape)
    warped = voxel_type.encode(warp_label_map(labels, disp, interpolation).astype(np.float32))
    return nifti_image(warped, reference.place, scaling=voxel_type), inside


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
    first, second = scans.both(str(source)) if coordinates == "voxels" else (None, None)
    positions = voxels_to_world(to_ras(coordinates, first), table.points.T)
    from_ras = np.linalg.inv(to_ras(coordinates, second))
    moved = voxels_to_world(from_ras, transform(positions))
    warn_of_inversion(transform, positions)
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


def scan_interpolation(name: str | None) -> ScanInterpolation:
    """Return the interpolation of a scan, linear by default; ``InputError`` if it is of labels."""
    for known in SCAN_INTERPOLATIONS:
        if name in (None, known):
            return known
    expected = " or ".join(SCAN_INTERPOLATIONS)
    remedy = "leave it out; if the file is a label map: --labels FILE (in Python: labels=True)"
    raise _wrong_interpolation("a scan", expected, str(name), remedy)


def label_interpolation(name: str | None) -> LabelInterpolation:
    """Return the interpolation of labels, nearest by default; ``InputError`` if it is of scans."""
    for known in LABEL_INTERPOLATIONS:
        if name in (None, known):
            return known
    expected = " or ".join(LABEL_INTERPOLATIONS)
    remedy = "leave it out; if the file is a scan: --image FILE (in Python: labels=False)"
    raise _wrong_interpolation("a label map", expected, str(name), remedy)


def check_no_interpolation(name: str | None) -> None:
    """Raise ``InputError`` if an interpolation is named for points."""
    if name is not None:
        raise _wrong_interpolation("points", "none: each point is moved", name, "leave it out")


def _wrong_interpolation(content: str, expected: str, name: str, remedy: str) -> InputError:
    what = f"does not fit {content}"
    return InputError(
        Problem(where="interpolation", what=what, expected=expected, found=name, remedy=remedy)
    )


def check_coordinates(coordinates: Coordinates | None) -> Coordinates:
    """Return the coordinates of points; ``InputError`` if none are named."""
    if coordinates is not None:
        return coordinates
    raise InputError(
        Problem(
            where="--coordinates",
            what="is missing",
            expected=", ".join(COORDINATES),
            found="points of unknown coordinates",
            remedy="--coordinates ras, if the file is in mm as 3D Slicer shows them",
        )
    )


def _field(
    transform: WorldTransform, reference: ImageGrid, affine: Float[np.ndarray, "4 4"]
) -> Field:
    warn_of_inversion(transform, reference.points())
    return torch.from_numpy(transform.voxel_field(reference, affine))[None]


def warn_of_inversion(transform: WorldTransform, points: Float[np.ndarray, "3 n"]) -> None:
    """Say it where a field is inverted at positions that have no inverse, or hardly one.

    Args:
        transform: A transform.
        points: Positions in RAS mm, of which up to 20,000, evenly spaced, are tried.
    """
    tried = points[:, :: max(1, points.shape[1] // _N_TRIED)]
    error_mm = transform.inversion_error_mm(tried)
    wrong = error_mm > _EXACT_MM
    if wrong.any():
        tqdm.write(
            f"!!! the inverse is not exact at {100 * wrong.mean():.2g} % of the positions, by up "
            f"to {error_mm.max():.2g} mm: the transform folds or compresses strongly there"
        )


def _check_inside(source: ScanSource, disp: Field, shape: Sequence[int]) -> float:
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


def to_ras(coordinates: Coordinates, grid: ImageGrid | None) -> Float64[np.ndarray, "4 4"]:
    """Return the map from coordinates to RAS mm.

    Args:
        coordinates: The coordinates.
        grid: Grid of the scan whose voxels are meant; it must be known for these.
    """
    if coordinates == "voxels":
        assert grid is not None
        return grid.place.affine
    return RAS_TO_LPS if coordinates == "lps" else np.eye(4)
