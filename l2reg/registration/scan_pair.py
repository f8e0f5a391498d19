"""Two scans of unknown origin: their files, fields of view, modalities and normalisation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from l2reg.data.field_of_view import field_of_view
from l2reg.data.intensity import Intensity, Region
from l2reg.io.scan_source import ScanSource
from l2reg.io.volumes import Volume, read_mask, read_volume
from l2reg.problems import InputError, Problem, raise_if_any
from l2reg.registration.channels import ChannelPair
from l2reg.registration.input_checks import (
    contrast_problems,
    size_problems,
)
from l2reg.registration.label_maps import is_label_map
from l2reg.registration.modality import Modality, modality, preset_flags, word_of
from l2reg.registration.preset_choice import AUTO, choose_preset
from l2reg.registration.scan_files import grid_problems
from l2reg.registration.working_grid import Views
from l2reg.shapes import Affine, ImagePair, MaskPair, Shape3, Spacing
from l2reg.transforms.image_grid import ImageGrid, read_grid
from l2reg.transforms.world import voxel_map


@dataclass(frozen=True)
class ScanPair:
    """A fixed and a moving scan, in this order wherever there are two of something.

    Attributes:
        sources: Where they come from.
        volumes: Intensities and headers.
        views: What may be compared: their fields of view, inside of their masks.
        modalities: CT in Hounsfield units, or anything else.
        preset: Name of the preset in use.
        intensities: Their normalisation.
        flags: Warnings about scans that the settings are not meant for.
        channels: Their further channels, on the same grids.
    """

    sources: tuple[ScanSource, ScanSource]
    volumes: tuple[Volume, Volume]
    views: Views
    modalities: tuple[Modality, Modality]
    preset: str
    intensities: tuple[Intensity, Intensity]
    flags: tuple[str, ...]
    channels: tuple[ChannelPair, ...] = ()

    @property
    def paths(self) -> tuple[Path, Path]:
        """Their files."""
        return (self.sources[0].path, self.sources[1].path)

    @property
    def fixed(self) -> Volume:
        """The fixed scan."""
        return self.volumes[0]

    @property
    def moving(self) -> Volume:
        """The moving scan."""
        return self.volumes[1]

    @property
    def shape(self) -> Shape3:
        """Shape of the fixed scan."""
        i, j, k = self.fixed.array.shape
        return (i, j, k)

    @property
    def spacing_mm(self) -> Spacing:
        """Spacing of the fixed scan."""
        return self.fixed.spacing_mm

    @property
    def header_map(self) -> Affine:
        """Map from fixed to moving voxels that the headers describe."""
        return _tensor(voxel_map(self.fixed.affine, self.moving.affine))[0, :, :3].float()

    @property
    def masks(self) -> MaskPair:
        """The fields of view as masks."""
        return _tensor(self.views[0]).float(), _tensor(self.views[1]).float()

    def with_channels(self, channels: tuple[ChannelPair, ...]) -> "ScanPair":
        """Return the scans with further channels; compared is where all of them have data."""
        fixed, moving = (
            np.logical_and.reduce([view, *(pair[side].view for pair in channels)])
            for side, view in enumerate(self.views)
        )
        return replace(self, views=(fixed, moving), channels=channels)

    def normalise_channels(self, regions: Views) -> ImagePair:
        """Return both scans with all of their channels; otherwise as ``normalise``."""
        images = [self.normalise(regions)]
        images += [
            _normalise(((fixed.array, fixed.intensity), (moving.array, moving.intensity)), regions)
            for fixed, moving in self.channels
        ]
        fixed, moving = (torch.cat(each, dim=1) for each in zip(*images, strict=True))
        return fixed, moving

    def normalise(self, regions: Views) -> ImagePair:
        """Return both scans, without their further channels, with intensities in [0, 1].

        Args:
            regions: Voxels that the normalisation may be computed from.
        """
        firsts = zip(self.volumes, self.intensities, strict=True)
        first, second = ((volume.array, intensity) for volume, intensity in firsts)
        return _normalise((first, second), regions)


def read_scans(
    sources: tuple[ScanSource, ScanSource],
    preset: str,
    presets: Mapping[str, Mapping[Modality, Intensity]],
    masks: tuple[Path | None, Path | None] = (None, None),
) -> ScanPair:
    """Read two scans, each file once, and say which part of their volumes is padding.

    Args:
        sources: The fixed and the moving scan.
        preset: Name of the preset, or ``auto``; what that chooses is said.
        presets: The normalisation of every preset for every modality.
        masks: Masks of what may be compared, beside the padding; on the grids of the scans.

    Raises:
        InputError: If a file is unreadable, a mask does not lie on the grid of its scan, or a scan
            has fewer than 8 voxels along an axis or almost no contrast after normalisation; all
            faults of one kind are listed together.
    """
    fixed, moving = _read_volumes(sources)
    paths = (sources[0].path, sources[1].path)
    whole = (_field_of_view(paths[0], fixed), _field_of_view(paths[1], moving))
    views = (
        whole[0] & _read_mask(masks[0], sources[0], fixed),
        whole[1] & _read_mask(masks[1], sources[1], moving),
    )
    kinds = (modality(fixed.array, whole[0]), modality(moving.array, whole[1]))
    if preset == AUTO:
        preset, reason = choose_preset((fixed, moving), whole, kinds)
        tqdm.write(f"--like auto: {word_of(preset)}, as {reason}")
    pair = ScanPair(
        sources=sources,
        volumes=(fixed, moving),
        views=views,
        modalities=kinds,
        preset=preset,
        intensities=(presets[preset][kinds[0]], presets[preset][kinds[1]]),
        flags=(*_label_map_flags(paths, (fixed, moving)), *preset_flags(paths, kinds, preset)),
    )
    problems = size_problems(paths, pair.volumes)
    for path, volume, kind, image in zip(
        paths, pair.volumes, kinds, pair.normalise(views), strict=True
    ):
        by_preset = {name: by_modality[kind] for name, by_modality in presets.items()}
        problems += contrast_problems(path, volume, image, preset, by_preset)
    raise_if_any(problems)
    return pair


def _label_map_flags(paths: Sequence[Path], scans: Sequence[Volume]) -> list[str]:
    return [
        f"{path} looks like a label map, whose labels are mixed: name the scan, and the labels by "
        "--fixed-labels and --moving-labels"
        for path, scan in zip(paths, scans, strict=True)
        if is_label_map(scan.array)
    ]


def _read_volumes(sources: Sequence[ScanSource]) -> list[Volume]:
    """Read volumes; the faults of all files are listed together."""
    volumes: list[Volume] = []
    problems: list[Problem] = []
    for source in sources:
        try:
            volumes.append(read_volume(source))
        except InputError as error:
            problems += error.problems
    raise_if_any(problems)
    return volumes


def _field_of_view(path: Path, scan: Volume) -> Region:
    """Return the field of view of a scan; say what is left out, and if its place is a guess."""
    if not scan.place.is_stated:
        tqdm.write(
            f"{path}: the header states no position (qform_code and sform_code are 0); its axes "
            "are taken to point left, posterior and superior"
        )
    view = field_of_view(scan.array)
    if not view.all():
        values, counts = np.unique(scan.array[~view], return_counts=True)
        common = " and ".join(f"{value:g}" for value in values[counts >= counts.max() / 10])
        tqdm.write(
            f"{path}: {100 * (1 - view.mean()):.0f} % of the volume is padding of intensity "
            f"{common}, which is not compared"
        )
    return view


def _read_mask(path: Path | None, image: ScanSource, scan: Volume) -> Region:
    """Return a mask on the grid of its scan; all of the scan without one."""
    if path is None:
        return np.ones(scan.array.shape, dtype=bool)
    i, j, k = scan.array.shape
    raise_if_any(grid_problems(path, read_grid(path), image, ImageGrid((i, j, k), scan.place)))
    return read_mask(path)


def _normalise(
    pair: tuple[tuple[np.ndarray, Intensity], tuple[np.ndarray, Intensity]], regions: Views
) -> ImagePair:
    fixed, moving = (
        _tensor(intensity(array, region if region.any() else None))
        for (array, intensity), region in zip(pair, regions, strict=True)
    )
    return fixed, moving


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array)[None, None]
