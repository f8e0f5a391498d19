"""Input checks of ``l2reg register``: scans that cannot be registered, and implausible fields."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from l2reg.data.intensity import Intensity
from l2reg.geometry.warp import warp
from l2reg.io.files import check_writable
from l2reg.io.volumes import Volume
from l2reg.problems import InputError, Problem, raise_if_any
from l2reg.registration.modality import word_of
from l2reg.shapes import Field, Image

_MIN_VOXELS = 8  # along an axis; with 5 the search did not find a shift by one voxel
_MIN_OVERLAP = 0.1  # fraction of the smaller field of view
_MIN_KEPT = 0.3  # fraction of that overlap that a field must keep
_MIN_RANGE = 0.1  # of the normalised intensities, which lie in [0, 1]


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


def check_outputs(inputs: Sequence[Path], outputs: Sequence[Path]) -> None:
    """Check that files can be written and replace no input, before any work.

    Args:
        inputs: Files that are read.
        outputs: Files that will be written, to one folder.

    Raises:
        InputError: If an output would replace an input, or the folder cannot be written to.
    """
    raise_if_any(overwrite_problems(inputs, outputs))
    check_writable(outputs[0].parent)


def size_problems(paths: Sequence[Path], scans: Sequence[Volume]) -> list[Problem]:
    """Return a problem for every scan with fewer than 8 voxels along an axis.

    Args:
        paths: The files of the scans.
        scans: The scans.
    """
    return [
        Problem(
            where=str(path),
            what="is too small to be registered",
            expected=f"at least {_MIN_VOXELS} voxels along each axis",
            found=" x ".join(map(str, scan.array.shape)),
            remedy="name the whole scan, or resample it to a finer grid",
        )
        for path, scan in zip(paths, scans, strict=True)
        if min(scan.array.shape) < _MIN_VOXELS
    ]


def contrast_problems(
    path: Path, scan: Volume, image: Image, preset: str, presets: Mapping[str, Intensity]
) -> list[Problem]:
    """Return a problem if a scan has almost no contrast after normalisation.

    Args:
        path: The file of the scan.
        scan: The scan.
        image: Its normalised intensities.
        preset: Name of the preset in use.
        presets: The normalisation of a scan of this modality by every preset.
    """
    if float(image.max() - image.min()) >= _MIN_RANGE:
        return []
    suitable = [
        f"--like {word_of(name)}"
        for name, intensity in presets.items()
        if np.ptp(intensity(scan.array)) >= _MIN_RANGE
    ]
    return [
        Problem(
            where=str(path),
            what=f"has almost no contrast with --like {word_of(preset)}",
            expected=f"contrast within {presets[preset]}",
            found=f"intensities from {scan.array.min():.4g} to {scan.array.max():.4g}",
            remedy=f"try {' or '.join(suitable)}" if suitable else "name another file",
        )
    ]


def check_overlap(paths: tuple[Path, Path], shared: float) -> None:
    """Refuse two scans that hardly overlap at the start.

    Args:
        paths: The files of the fixed and of the moving scan.
        shared: What both scans show, as a fraction of the smaller field of view.

    Raises:
        InputError: If that is less than a tenth.
    """
    if shared >= _MIN_OVERLAP:
        return
    fixed, moving = paths
    raise InputError(
        Problem(
            where=str(moving),
            what=f"hardly overlaps {fixed}",
            expected="scans that lie at the same position",
            found=f"{100 * shared:.0f} % of the smaller field of view lies inside the other one",
            remedy="name scans of the same part of the body; if they are, align them first "
            "(--prealign rigid), or correct the origin or orientation in a header",
        )
    )


def check_field(paths: tuple[Path, Path], disp: Field, moving_scan: Volume, overlap: float) -> None:
    """Refuse a field that maps most of the overlap to positions outside of the moving scan.

    Args:
        paths: The files of the fixed and of the moving scan.
        disp: The field from fixed to moving voxels, with the initial map.
        moving_scan: The moving scan.
        overlap: Fraction of the fixed volume that the start places inside the moving volume.

    Raises:
        InputError: If less than 0.3 of the overlap is left.
    """
    inside = inside_fraction(disp, moving_scan)
    if inside < _MIN_KEPT * overlap:
        fixed, moving = paths
        raise InputError(
            Problem(
                where=str(moving),
                what=f"could not be registered to {fixed}",
                expected="a field that stays inside the moving scan",
                found=f"{100 * inside:.0f} % of the fixed volume is mapped into the moving volume, "
                f"{100 * overlap:.0f} % by the start alone",
                remedy="check that both show the same part of the body, or try another --like",
            )
        )


def inside_fraction(disp: Field, moving: Volume) -> float:
    """Return the fraction of the fixed volume that a field maps into the moving volume."""
    ones = torch.ones(1, 1, *moving.array.shape)
    return float(warp(ones, disp, padding="zeros").mean())
