"""Fingerprint of one's own data: sizes, spacings, intensities, overlap and displacement."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from nibabel.orientations import aff2axcodes, io_orientation
from tqdm import tqdm

from l2reg.config.build import build
from l2reg.config.presets import load_preset
from l2reg.data.field_of_view import field_of_view
from l2reg.data.intensity import Region
from l2reg.features.extractor import FeatureExtractor
from l2reg.features.similarity import scan_similarity
from l2reg.io.point_tables import read_point_table
from l2reg.io.scan_source import ScanSource
from l2reg.io.volumes import Volume, read_volume
from l2reg.own_data.dataset import OwnDataset
from l2reg.own_data.own_table import OwnRow, OwnScan
from l2reg.registration.modality import Modality, modality
from l2reg.registration.preset_choice import choose_preset
from l2reg.registration.scan_pair import ScanPair
from l2reg.registration.small_scans import shrink_scans
from l2reg.registration.warp_files import to_ras
from l2reg.transforms.image_grid import ImageGrid, read_grid
from l2reg.transforms.pair_grid import overlap_box, overlap_fraction
from l2reg.transforms.world import voxels_to_world
from l2reg.wording import quantity

Sizes = Float64[np.ndarray, "n 3"]  # to the right, front and top

_BLACK = 0.05  # intensity; those of a scan lie in [0, 1]
_PERCENTILES = (0.5, 50.0, 99.5)


@dataclass(frozen=True)
class Fingerprint:
    """Facts of a table of scans.

    Attributes:
        n_rows: Number of pairs, or of single scans.
        paired: Whether a row is a pair.
        n_subjects: Number of subjects.
        spacings_mm: Spacing of each fixed or single scan, along its axes to the right, front, top.
        extents_mm: Extent of what a grid has to cover, of each pair or single scan: that of the
            fixed scan, or of the box that the moving one shows as well.
        shapes: Smallest and largest number of voxels of all scans, along these axes.
        orientations: Number of scans of each orientation, such as ``LPS``.
        overlaps: Volume that the scans of each pair share by their headers, as a fraction of the
            smaller one; of each single scan with the next one.
        n_channels: Number of channels of each scan.
        modalities: Number of the scans that were read, by what they are, for ``fixed`` and
            ``moving``, or ``scan``, and further channels such as ``fixed_channel_1``.
        intensities: Percentiles 0.5, 50 and 99.5 of these scans, in the same way.
        presets: Number of the pairs that were read, by the preset of ``l2reg register`` for them.
        reason: Why it is the preset of the first pair.
        contrasts: Correlation of the local contrasts of these pairs, as they lie by their headers.
        displacements_mm: Distance of every point from its partner by the headers; none without
            points.
        n_labelled: Number of rows with labels.
    """

    n_rows: int
    paired: bool
    n_subjects: int
    spacings_mm: Sizes
    extents_mm: Sizes
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    orientations: Mapping[str, int]
    overlaps: Sequence[float]
    n_channels: int
    modalities: Mapping[str, Mapping[Modality, int]]
    intensities: Mapping[str, tuple[float, ...]]
    presets: Mapping[str, int]
    reason: str
    contrasts: Sequence[float]
    displacements_mm: Sequence[float]
    n_labelled: int

    def lines(self) -> list[str]:
        """Return the facts in words."""
        spacing = [_range(column, "g") for column in self.spacings_mm.T.round(3)]
        extent = [_range(column, ".0f") for column in self.extents_mm.T]
        shape = [f"{a}" if a == b else f"{a}-{b}" for a, b in zip(*self.shapes, strict=True)]
        axes = ", ".join(f"{n} {name}" for name, n in self.orientations.items())
        what = quantity(self.n_rows, "pair" if self.paired else "single scan")
        subjects = quantity(self.n_subjects, "subject")
        lines = [
            f"{what} of {subjects}, {self.n_labelled} with labels",
            f"sizes {' x '.join(shape)} voxels (right, front, top); orientations: {axes}",
            f"spacings {' x '.join(spacing)} mm; extents to cover {' x '.join(extent)} mm",
            f"overlap by the headers: median {100 * np.median(self.overlaps):.0f} %, least "
            f"{100 * min(self.overlaps):.0f} % of the smaller scan",
        ]
        for side, kinds in self.modalities.items():
            named = ", ".join(f"{n} {'CT' if kind == 'CT' else 'other than CT'}"
                              for kind, n in kinds.items())  # fmt: skip
            low, middle, high = self.intensities[side]
            lines.append(
                f"{side}: {named} of those read; percentiles 0.5, 50, 99.5: "
                f"{low:.4g}, {middle:.4g}, {high:.4g}"
            )
        if self.displacements_mm:
            lines.append(
                f"displacement of the points by the headers: mean "
                f"{np.mean(self.displacements_mm):.1f} mm, 95 % below "
                f"{np.percentile(self.displacements_mm, 95):.1f} mm"
            )
        return lines


def read_fingerprint(data: OwnDataset, max_scans: int) -> Fingerprint:
    """Read the facts of the rows of a table that are not for tests.

    Args:
        data: The data set; of its task nothing is used.
        max_scans: Number of rows whose voxels are read.

    Raises:
        InputError: If a file that is read is missing or unreadable.
    """
    rows = [row for row in data.table.rows if row.split != "test"] or list(data.table.rows)
    pairs = rows if data.table.paired else _neighbours(rows)
    grids = {s.image: read_grid(s.files.image) for row in rows for s in row.scans}
    shapes = np.array([_to_ras(g, np.array(g.shape)) for g in grids.values()]).astype(int)
    chosen = np.unique(np.linspace(0, len(pairs) - 1, min(max_scans, len(pairs))).round())
    read = [_read_pair(pairs[int(n)]) for n in tqdm(chosen, "reading scans", disable=None)]
    channels = [
        (n, m, name) for n, names in enumerate(data.modalities) for m, name in enumerate(names)
    ]
    first, reason = read[0].preset, read[0].reason
    return Fingerprint(
        n_rows=len(rows),
        paired=data.table.paired,
        n_subjects=len({s for row in rows for s in row.subjects}),
        spacings_mm=np.array([_spacing(grids[row.scans[0].image]) for row in rows]),
        extents_mm=np.array([_extent(row, grids, data.start) for row in rows]),
        shapes=(tuple(shapes.min(axis=0).tolist()), tuple(shapes.max(axis=0).tolist())),
        orientations=Counter("".join(aff2axcodes(g.place.affine)) for g in grids.values()),
        overlaps=[overlap_fraction(*_both(row, grids)) for row in pairs] or [1.0],
        n_channels=data.table.n_channels,
        modalities={
            name: Counter(each.modalities[n][m] for each in read) for n, m, name in channels
        },
        intensities={
            name: tuple(np.median([each.percentiles[n][m] for each in read], axis=0))
            for n, m, name in channels
        },
        presets=Counter(each.preset for each in read),
        reason=reason if len({each.preset for each in read}) == 1 else f"first pair {first}",
        contrasts=[each.contrast for each in read],
        displacements_mm=[d for row in pairs for d in _displacements(row, grids)],
        n_labelled=sum(all(s.files.labels is not None for s in row.scans) for row in rows),
    )


@dataclass(frozen=True)
class _PairFacts:
    """What the voxels of a pair tell; of each scan and each of its channels."""

    modalities: Sequence[Sequence[Modality]]
    percentiles: Sequence[Sequence[Float64[np.ndarray, " 3"]]]
    preset: str
    reason: str
    contrast: float


def _read_pair(row: OwnRow) -> _PairFacts:
    settings = build(load_preset("register", "default"))
    files = (row.scans[0].files, row.scans[-1].files)
    read = [[_with_view(source) for source in (each.image, *each.channels)] for each in files]
    kinds = [[modality(scan.array, view) for scan, view in channels] for channels in read]
    fixed, moving = (channels[0][0] for channels in read)
    views = (read[0][0][1], read[1][0][1])
    first_kinds = (kinds[0][0], kinds[1][0])
    preset, reason = choose_preset((fixed, moving), views, first_kinds)
    windows = settings["intensity"][preset]
    pair = ScanPair((files[0].image, files[1].image), (fixed, moving), views, first_kinds, preset,
                    (windows[first_kinds[0]], windows[first_kinds[1]]), ())  # fmt: skip
    return _PairFacts(
        kinds,
        [[_percentiles(scan, view) for scan, view in channels] for channels in read],
        preset,
        reason,
        _contrast(pair, settings["judge"].contrast, settings["initial_map"].max_size),
    )


def _with_view(source: ScanSource) -> tuple[Volume, Region]:
    scan = read_volume(source)
    return scan, field_of_view(scan.array)


def _percentiles(scan: Volume, view: np.ndarray) -> Float64[np.ndarray, " 3"]:
    percentiles: np.ndarray = np.percentile(scan.array[view], _PERCENTILES).astype(np.float64)
    return percentiles


def _contrast(pair: ScanPair, features: FeatureExtractor, max_size: int) -> float:
    """Return the correlation of the local contrasts where neither scan is black."""
    images = pair.normalise(pair.views)
    small = shrink_scans(images, pair.masks, pair.header_map, pair.spacing_mm, max_size)
    batch = small.align(small.to_small(pair.header_map))
    bright = ((batch["fixed"] > _BLACK) & (batch["moving"] > _BLACK)).float()
    return scan_similarity(batch, features, batch["moving_mask"] * bright)


def _neighbours(rows: Sequence[OwnRow]) -> list[OwnRow]:
    """Return each single scan with the next one."""
    following = [*rows[1:], rows[0]]
    return [
        OwnRow(row.name, (*row.scans, *other.scans), None)
        for row, other in zip(rows, following, strict=True)
    ]


def _both(row: OwnRow, grids: Mapping[Path, ImageGrid]) -> tuple[ImageGrid, ImageGrid]:
    return grids[row.scans[0].image], grids[row.scans[-1].image]


def _to_ras(grid: ImageGrid, values: np.ndarray) -> np.ndarray:
    """Return values of a scan's array axes in the order of its axes to the right, front and top."""
    ordered = np.empty(3)
    ordered[io_orientation(grid.place.affine)[:, 0].astype(int)] = values
    return ordered


def _spacing(grid: ImageGrid) -> np.ndarray:
    return _to_ras(grid, np.linalg.norm(grid.place.affine[:3, :3], axis=0))


def _extent(row: OwnRow, grids: Mapping[Path, ImageGrid], start: str) -> np.ndarray:
    fixed, moving = _both(row, grids)
    box = overlap_box(fixed, moving) if start == "headers" and len(row.scans) == 2 else None
    n_voxels = np.array(fixed.shape) - 1 if box is None else box[1] - box[0]
    return _to_ras(fixed, n_voxels * np.linalg.norm(fixed.place.affine[:3, :3], axis=0))


def _displacements(row: OwnRow, grids: Mapping[Path, ImageGrid]) -> list[float]:
    tables = [_world_points(scan, grids[scan.image]) for scan in row.scans]
    if len(tables) < 2 or any(table is None for table in tables):
        return []
    fixed, moving = (table for table in tables if table is not None)
    if fixed.shape != moving.shape:
        return []
    distances: list[float] = np.linalg.norm(fixed - moving, axis=0).tolist()
    return distances


def _world_points(scan: OwnScan, grid: ImageGrid) -> np.ndarray | None:
    if scan.files.points is None:
        return None
    points = read_point_table(scan.files.points).points
    return voxels_to_world(to_ras(scan.files.coordinates, grid), points.T)


def _range(values: np.ndarray, form: str) -> str:
    low, high = f"{values.min():{form}}", f"{values.max():{form}}"
    return low if low == high else f"{low}-{high}"
