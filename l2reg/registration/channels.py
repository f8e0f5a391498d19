"""Further channels of two scans, such as T2 beside T1, read and placed on the first one's grid."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32
from tqdm import tqdm

from l2reg.data.field_of_view import field_of_view
from l2reg.data.intensity import Intensity, Region
from l2reg.geometry.affine import affine_field
from l2reg.geometry.warp import inside_volume, warp
from l2reg.io.scan_source import ScanSource
from l2reg.io.volumes import Volume, read_volume
from l2reg.problems import InputError, Problem, raise_if_any
from l2reg.registration.input_checks import contrast_problems
from l2reg.registration.modality import Modality, modality
from l2reg.registration.scan_files import ScanFiles
from l2reg.transforms.image_grid import ImageGrid
from l2reg.transforms.world import voxel_map
from l2reg.wording import quantity

_SAME_PLACE = 1e-3  # voxels between two places of a corner
_MIN_COVERED = 0.1  # fraction of the scan


@dataclass(frozen=True)
class Channel:
    """A further channel of a scan, on the grid of the first.

    Attributes:
        array: Intensities.
        view: Where it has data.
        kind: CT in Hounsfield units, or anything else.
        intensity: Normalisation.
    """

    array: Float32[np.ndarray, "i j k"]
    view: Region
    kind: Modality
    intensity: Intensity


ChannelPair = tuple[Channel, Channel]


def read_channels(
    files: tuple[ScanFiles, ScanFiles],
    scans: tuple[Volume, Volume],
    preset: str,
    presets: Mapping[str, Mapping[Modality, Intensity]],
) -> tuple[ChannelPair, ...]:
    """Read the further channels of two scans; one that lies on another grid is resampled.

    Args:
        files: Files of the fixed and of the moving scan.
        scans: Their first channels.
        preset: Name of the preset in use.
        presets: The normalisation of every preset for every modality.

    Raises:
        InputError: If the scans do not have as many channels, a file is unreadable, covers little
            of its scan, or has almost no contrast.
    """
    check_channels(files)
    return tuple(
        (
            _read(fixed, files[0].image, scans[0], preset, presets),
            _read(moving, files[1].image, scans[1], preset, presets),
        )
        for fixed, moving in zip(files[0].channels, files[1].channels, strict=True)
    )


def check_channels(files: tuple[ScanFiles, ScanFiles]) -> None:
    """Raise ``InputError`` unless two scans have as many further channels."""
    numbers = [len(each.channels) for each in files]
    if numbers[0] == numbers[1]:
        return
    lacking = ("fixed", "moving")[numbers[0] > numbers[1]]
    raise InputError(
        Problem(
            where=f"--{lacking}-channel",
            what="is missing",
            expected="as many channels of both scans, in the same order",
            found=f"{numbers[0]} fixed and {quantity(numbers[1], 'moving channel')} beside the "
            "scans",
            remedy=f"add --{lacking}-channel FILE",
        )
    )


def coverage_problems(source: ScanSource, scan: ScanSource, covered: float) -> list[Problem]:
    """Return the problem of a channel that shows little of its scan, if it does.

    Args:
        source: The channel.
        scan: The scan, its first channel.
        covered: Fraction of the scan that the channel shows.
    """
    if covered >= _MIN_COVERED:
        return []
    return [
        Problem(
            where=str(source),
            what=f"hardly overlaps {scan}, whose channel it is",
            expected="a channel of the same scan, at the same place",
            found=f"{100 * covered:.0f} % of the scan",
            remedy="name another file, or register it to the scan first",
        )
    ]


def _read(
    source: ScanSource,
    scan: ScanSource,
    first: Volume,
    preset: str,
    presets: Mapping[str, Mapping[Modality, Intensity]],
) -> Channel:
    volume = read_volume(source)
    view = field_of_view(volume.array)
    kind = modality(volume.array, view)
    own = _grid(volume)
    if own.shape == first.array.shape and own.corner_distance(_grid(first)) < _SAME_PLACE:
        array = volume.array
    else:
        array, view = _resample(volume, view, first)
        covered = float(view.mean())
        tqdm.write(
            f"{source}: resampled onto the grid of {scan}, of which it covers {100 * covered:.0f} %"
        )
        raise_if_any(coverage_problems(source, scan, covered))
    intensity = presets[preset][kind]
    image = torch.from_numpy(intensity(array, view))[None, None]
    by_preset = {name: by_kind[kind] for name, by_kind in presets.items()}
    if problems := contrast_problems(source.path, volume, image, preset, by_preset):
        raise InputError(*problems)
    return Channel(array, view, kind, intensity)


def _resample(
    volume: Volume, view: Region, first: Volume
) -> tuple[Float32[np.ndarray, "fi fj fk"], Bool[np.ndarray, "fi fj fk"]]:
    """Return a volume, and where it has data, on the grid of another one."""
    matrix = torch.from_numpy(voxel_map(first.affine, volume.affine))[None, :3].float()
    i, j, k = first.array.shape
    disp = affine_field(matrix, (i, j, k))
    image, mask = (torch.from_numpy(a.astype(np.float32))[None, None] for a in (volume.array, view))
    inside = inside_volume(disp, volume.array.shape) * (warp(mask, disp) > 0.99)
    return warp(image, disp)[0, 0].numpy(), inside[0, 0].numpy() > 0


def _grid(volume: Volume) -> ImageGrid:
    i, j, k = volume.array.shape
    return ImageGrid((i, j, k), volume.place)
