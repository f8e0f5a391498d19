"""What ``l2reg register`` refuses: scans that cannot be registered, and fields that went astray."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from l2reg.data.intensity import Intensity
from l2reg.geometry.affine import affine_field
from l2reg.geometry.warp import warp
from l2reg.io.volumes import Volume, read_volume
from l2reg.problems import InputError, Problem, raise_if_any
from l2reg.shapes import Affine, Field

_MIN_VOXELS = 8  # along an axis; with 5 the search missed a shift by one voxel altogether
_MIN_OVERLAP = 0.1  # fraction of the fixed volume
_MIN_KEPT = 0.3  # fraction of that overlap, once registered
_MIN_RANGE = 0.1  # of [0, 1], the normalised intensities
_FITS = "lung is for CT in Hounsfield units, abdomen and oasis for any scan whose outside is 0"


def read_scans(paths: Sequence[Path]) -> list[Volume]:
    """Read scans, each of them once.

    Raises:
        InputError: For every scan that is unreadable, has a header that cannot be inverted, or has
            fewer than 8 voxels along an axis.
    """
    scans: list[Volume] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            scans.append(read_volume(path))
        except InputError as error:
            problems += error.problems
        else:
            problems += _too_small(path, scans[-1].array.shape)
    raise_if_any(problems)
    return scans


def check_contrast(
    paths: Sequence[Path], scans: Sequence[Volume], preset: str, presets: Mapping[str, Intensity]
) -> None:
    """Refuse scans that show almost nothing once they are normalised.

    Args:
        paths: Files of the scans.
        scans: What they hold.
        preset: Name of the preset in use.
        presets: Normalisation of every preset.

    Raises:
        InputError: If there are any; the message names the presets that would show something.
    """
    problems = []
    for path, scan in zip(paths, scans, strict=True):
        fitting = [p for p, intensity in presets.items() if _range(scan, intensity) >= _MIN_RANGE]
        if preset not in fitting:
            problems.append(_without_contrast(path, scan, preset, presets[preset], fitting))
    raise_if_any(problems)


def check_overlap(fixed: Path, moving: Path, shape: Sequence[int], initial: Affine,
                  moving_scan: Volume) -> float:  # fmt: skip
    """Return the fraction of the fixed volume that the headers put inside the moving one.

    Raises:
        InputError: If it is below a tenth.
    """
    i, j, k = shape
    inside = inside_fraction(affine_field(initial, (i, j, k)), moving_scan)
    if inside < _MIN_OVERLAP:
        raise InputError(
            Problem(
                where=str(moving),
                what=f"lies elsewhere than {fixed}",
                expected="headers that put both scans at the same place",
                found=f"{100 * inside:.0f} % of the fixed volume lies within the moving one",
                remedy="correct the origin or orientation in a header, or align the scans roughly",
            )
        )
    return inside


def check_field(
    fixed: Path, moving: Path, disp: Field, moving_scan: Volume, overlap: float
) -> None:
    """Refuse a field that leads out of the moving scan.

    Args:
        fixed: File of the fixed scan.
        moving: File of the moving scan.
        disp: From fixed to moving voxels, the headers' map included.
        moving_scan: What ``moving`` holds.
        overlap: Fraction of the fixed volume that lay inside the moving one before.

    Raises:
        InputError: If less than a third of the overlap is left.
    """
    inside = inside_fraction(disp, moving_scan)
    if inside < _MIN_KEPT * overlap:
        raise InputError(
            Problem(
                where=str(moving),
                what=f"could not be registered to {fixed}",
                expected="a field that leads into the moving scan",
                found=f"{100 * inside:.0f} % of the fixed volume lands within the moving one, "
                f"{100 * overlap:.0f} % as the headers put them",
                remedy="look whether both show the same part of a body, or try another --like",
            )
        )


def inside_fraction(disp: Field, moving: Volume) -> float:
    """Return the fraction of the fixed volume that is sampled inside the moving one."""
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
            remedy="name the whole scan, or sample it on a finer grid",
        )
    ]


def _range(scan: Volume, intensity: Intensity) -> float:
    return float(np.ptp(intensity(scan.array)))


def _without_contrast(
    path: Path, scan: Volume, preset: str, intensity: Intensity, fitting: Sequence[str]
) -> Problem:
    others = " or ".join(f"--like {name}" for name in fitting)
    return Problem(
        where=str(path),
        what=f"shows nothing with --like {preset}",
        expected=f"contrast within {intensity}",
        found=f"intensities from {scan.array.min():.4g} to {scan.array.max():.4g}",
        remedy=f"{f'try {others}' if fitting else 'name another file'}; {_FITS}",
    )
