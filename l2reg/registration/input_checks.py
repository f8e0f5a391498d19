"""Input checks of ``l2reg register``: scans that cannot be registered, and implausible fields."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from l2reg.data.intensity import Intensity
from l2reg.geometry.affine import affine_field
from l2reg.geometry.warp import warp
from l2reg.io.volumes import Volume
from l2reg.problems import InputError, Problem, raise_if_any
from l2reg.shapes import Affine, Field

_MIN_VOXELS = 8  # along an axis; with 5 the search did not find a shift by one voxel
_MIN_OVERLAP = 0.1  # fraction of the fixed volume
_MIN_KEPT = 0.3  # fraction of that overlap that a field must keep
_MIN_RANGE = 0.1  # of the normalised intensities, which lie in [0, 1]
_PRESETS = "lung is for CT in Hounsfield units, abdomen and oasis for scans with background 0"


def overwrite_problems(inputs: Sequence[Path], outputs: Sequence[Path]) -> list[Problem]:
    """Return a problem for every input file that an output would replace, through links too.

    Args:
        inputs: Files that are read; they may be missing.
        outputs: Files that will be written.
    """
    return [
        Problem(
            where=str(path),
            what="is an input, and the output would replace it",
            expected="an output folder without the scans that are registered",
            found=f"the output {target} is the same file",
            remedy=f"choose another folder than {target.parent}: --out FOLDER",
        )
        for path in dict.fromkeys(inputs)
        for target in outputs
        if path.exists() and target.exists() and path.samefile(target)
    ]


def check_inputs(
    paths: Sequence[Path],
    scans: Sequence[Volume],
    images: Sequence[Tensor],
    initial: Affine,
    preset: str,
    presets: Mapping[str, Intensity],
    *,
    shared_fraction: float,
) -> float:
    """Refuse two scans that cannot be registered, with all their faults at once.

    Args:
        paths: The files of the fixed and of the moving scan.
        scans: The two scans.
        images: Their normalised intensities, ``(1, 1, i, j, k)``.
        initial: Map from fixed to moving voxels that the headers describe.
        preset: Name of the preset in use.
        presets: The normalisation of every preset, by name.
        shared_fraction: Fraction of the fixed scan's field of view that the moving scan shows, too.

    Returns:
        The fraction of the fixed volume that the headers place inside the moving volume.

    Raises:
        InputError: If a scan has fewer than 8 voxels along an axis or almost no contrast after
            normalisation, or the scans overlap by less than a tenth of the fixed scan.
    """
    problems: list[Problem] = []
    for path, scan, image in zip(paths, scans, images, strict=True):
        problems += _too_small(path, scan.array.shape)
        if float(image.max() - image.min()) < _MIN_RANGE:
            problems.append(_without_contrast(path, scan, preset, presets))
    i, j, k = scans[0].array.shape
    inside = inside_fraction(affine_field(initial, (i, j, k)), scans[1])
    if min(inside, shared_fraction) < _MIN_OVERLAP:
        problems.append(_apart(paths[0], paths[1], min(inside, shared_fraction)))
    raise_if_any(problems)
    return inside


def check_field(
    fixed: Path, moving: Path, disp: Field, moving_scan: Volume, overlap: float
) -> None:
    """Refuse a field that maps most of the overlap to positions outside of the moving scan.

    Args:
        fixed: The file of the fixed scan.
        moving: The file of the moving scan.
        disp: The field from fixed to moving voxels, with the map of the headers.
        moving_scan: The moving scan.
        overlap: Fraction of the fixed volume that the headers place inside the moving volume.

    Raises:
        InputError: If less than 0.3 of the overlap is left.
    """
    inside = inside_fraction(disp, moving_scan)
    if inside < _MIN_KEPT * overlap:
        raise InputError(
            Problem(
                where=str(moving),
                what=f"could not be registered to {fixed}",
                expected="a field that stays inside the moving scan",
                found=f"{100 * inside:.0f} % of the fixed volume is mapped into the moving volume, "
                f"{100 * overlap:.0f} % by the headers alone",
                remedy="check that both show the same part of the body, or try another --like",
            )
        )


def inside_fraction(disp: Field, moving: Volume) -> float:
    """Return the fraction of the fixed volume that a field maps into the moving volume."""
    ones = torch.ones(1, 1, *moving.array.shape)
    return float(warp(ones, disp, padding="zeros").mean())


def _too_small(path: Path, shape: Sequence[int]) -> list[Problem]:
    if min(shape) >= _MIN_VOXELS:
        return []
    return [
        Problem(
            where=str(path),
            what="is too small to be registered",
            expected=f"at least {_MIN_VOXELS} voxels along each axis",
            found=" x ".join(map(str, shape)),
            remedy="name the whole scan, or resample it to a finer grid",
        )
    ]


def _apart(fixed: Path, moving: Path, inside: float) -> Problem:
    return Problem(
        where=str(moving),
        what=f"hardly overlaps {fixed}",
        expected="headers that place both scans at the same position",
        found=f"{100 * inside:.0f} % of the fixed field of view lies inside the moving one",
        remedy="correct the origin or orientation in a header, or align the scans roughly",
    )


def _without_contrast(
    path: Path, scan: Volume, preset: str, presets: Mapping[str, Intensity]
) -> Problem:
    suitable = [
        f"--like {name}"
        for name, intensity in presets.items()
        if np.ptp(intensity(scan.array)) >= _MIN_RANGE
    ]
    remedy = f"try {' or '.join(suitable)}" if suitable else "name another file"
    return Problem(
        where=str(path),
        what=f"has almost no contrast with --like {preset}",
        expected=f"contrast within {presets[preset]}",
        found=f"intensities from {scan.array.min():.4g} to {scan.array.max():.4g}",
        remedy=f"{remedy}; {_PRESETS}",
    )
