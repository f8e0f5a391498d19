"""Checks of one's own data: faults that would end a run late, or silently spoil its results."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from l2reg.data.cache import Cache
from l2reg.io.point_tables import read_point_table
from l2reg.io.scan_source import ScanSource, input_digest
from l2reg.io.volumes import read_labels, read_mask, read_volume
from l2reg.own_data.dataset import OwnDataset
from l2reg.own_data.own_table import OwnRow, OwnScan
from l2reg.problems import InputError, Problem
from l2reg.registration.channels import coverage_problems
from l2reg.registration.scan_files import grid_problems
from l2reg.registration.warp_files import to_ras
from l2reg.transforms.image_grid import ImageGrid, read_grid
from l2reg.transforms.pair_grid import covered_fraction, overlap_fraction
from l2reg.transforms.world import voxels_to_world
from l2reg.wording import quantity

_MIN_OVERLAP = 0.1  # fraction of the smaller scan
_LITTLE_OVERLAP = 0.4
_MARGIN = 0.5  # voxels beyond the outermost centres, where a volume ends


def own_problems(data: OwnDataset, rows: Sequence[OwnRow]) -> list[Problem]:
    """Return the faults of the files of some rows, of one scan each or of pairs.

    Args:
        data: The data set; its cache knows the files without faults, which are not read again.
        rows: Rows of its table.
    """
    cache = data.volume_cache
    problems: list[Problem] = []
    for row in tqdm(rows, "checking files", disable=None, leave=False):
        faults = [p for scan in row.scans for p in _scan_problems(scan, cache)]
        faults += [p for scan in row.scans for p in _problems_of(partial(_check_points, scan))]
        if not faults and len(row.scans) == 2:
            faults = list(_pair_problems(data, row))
        problems += faults
    return list(dict.fromkeys(problems))


def duplicate_images(data: OwnDataset) -> list[Problem]:
    """Return a problem for every image that is in two splits, as a scan or a channel of one."""
    first: dict[str, tuple[str, Path]] = {}
    problems: dict[Path, Problem] = {}
    for split, rows in data.splits.rows.items():
        scans = (scan for row in rows for scan in row.scans if scan.subject is not None)
        for path in (source.path for scan in scans for source in scan.channels):
            digest = input_digest(path)
            if digest is None:
                continue
            other, image = first.setdefault(digest, (split, path))
            if other != split:
                problems[path] = Problem(
                    where=str(path),
                    what="is in two splits",
                    expected="an image that is either trained on or scored",
                    found=f"{split} and {other}"
                    + (f": the same bytes as {image}" if image != path else ""),
                    remedy="leave one out, or give both the same subject",
                )
    return list(problems.values())


def own_warnings(data: OwnDataset, rows: Sequence[OwnRow]) -> list[Problem]:
    """Return what may be wrong with pairs whose files have no fault.

    Args:
        data: The data set.
        rows: Rows of its table, of which single scans are skipped.
    """
    warnings: list[Problem] = []
    for row in rows:
        if len(row.scans) < 2:
            continue
        fixed, moving = row.scans
        if _is_same(fixed.files.image, moving.files.image):
            warnings.append(_twice(data, row))
        for kind in ("labels", "points"):
            given = [getattr(scan.files, kind) for scan in row.scans]
            if None in given and given != [None, None]:
                warnings.append(_one_side(data, row, kind))
        if None not in (fixed.files.labels, moving.files.labels):
            warnings += _unlike_labels(data, row)
        shared = _overlap_fraction(row)
        if data.start == "headers" and _MIN_OVERLAP <= shared < _LITTLE_OVERLAP:
            warnings.append(_overlap(data, row, shared))
    return warnings


def _scan_problems(scan: OwnScan, cache: Cache) -> list[Problem]:
    problems = _problems_of(partial(_check_file, scan.files.image, _check_image, cache))
    if problems:
        return problems
    own = read_grid(scan.files.image)
    for channel in scan.files.channels:
        faults = _problems_of(partial(_check_file, channel, _check_image, cache))
        if not faults:
            covered = covered_fraction(own, read_grid(channel))
            faults = coverage_problems(channel, scan.files.image, covered)
        problems += faults
    for path, check in ((scan.files.labels, read_labels), (scan.files.mask, read_mask)):
        if path is not None:
            faults = _problems_of(partial(_check_file, ScanSource(path), check, cache))
            problems += faults or grid_problems(path, read_grid(path), scan.files.image, own)
    return problems


def _check_file(source: ScanSource, check: Callable[[ScanSource], object], cache: Cache) -> None:
    """Check a file, unless the cache says that it has no fault."""
    read_grid(source)  # whose errors name a missing file, too

    def passes() -> np.ndarray:
        check(source)
        return np.ones(1, dtype=bool)

    volume = {} if source.volume is None else {"volume": source.volume}
    cache.get(source.path, {"checked": f"own {check.__name__}", **volume}, passes)


def _check_image(source: ScanSource) -> None:
    image = read_volume(source).array
    if image.min() == image.max():
        raise InputError(
            Problem(
                where=str(source),
                what="has one intensity everywhere",
                expected="a scan",
                found=f"{image.min():g} in every voxel",
                remedy="name the scan, or leave out the row",
            )
        )


def _check_points(scan: OwnScan) -> None:
    path = scan.files.points
    if path is None or not scan.image.exists():
        return
    points, grid = read_point_table(path).points, read_grid(scan.files.image)
    world = voxels_to_world(to_ras(scan.files.coordinates, grid), points.T)
    voxels = voxels_to_world(np.linalg.inv(grid.place.affine), world).T
    last = np.array(grid.shape) - 1 + _MARGIN
    outside = ((voxels < -_MARGIN) | (voxels > last)).any(axis=1)
    if outside.any():
        first = int(np.flatnonzero(outside)[0])
        raise InputError(
            Problem(
                where=str(path),
                what=f"has points outside of {scan.files.image}",
                expected=f"positions in the scan, in coordinates {scan.files.coordinates}",
                found=f"{int(outside.sum())} of {len(points)}, the first is point {first + 1}: "
                f"{', '.join(f'{x:g}' for x in points[first])}, which is voxel "
                f"{', '.join(f'{x:.1f}' for x in voxels[first])} of {_size(grid)}",
                remedy="correct the points, or say their coordinates: data.coordinates=lps "
                "(l2reg check: --coordinates lps)",
            )
        )


def _pair_problems(data: OwnDataset, row: OwnRow) -> Iterator[Problem]:
    fixed, moving = row.scans
    tables = [s.files.points for s in row.scans if s.files.points is not None]
    counts = [len(read_point_table(path).points) for path in tables]
    if len(set(counts)) > 1:
        yield Problem(
            where=f"{data.table.path}, {row.name}",
            what="has points that do not correspond",
            expected=f"{quantity(counts[0], 'row')} in {tables[1]}, as in {tables[0]}",
            found=quantity(counts[1], "row"),
            remedy="row n of one file must be the same point as row n of the other",
        )
    labels = [_labels(scan, data.volume_cache) for scan in row.scans]
    if labels[0] and labels[1] and not labels[0] & labels[1]:
        yield Problem(
            where=f"{data.table.path}, {row.name}",
            what="has label maps without a common label",
            expected=f"some of {sorted(labels[0])[:10]} of {fixed.files.labels}",
            found=f"{sorted(labels[1])[:10]} in {moving.files.labels}",
            remedy="number the labels of both alike, or leave them out",
        )
    shared = _overlap_fraction(row)
    if data.start == "headers" and shared < _MIN_OVERLAP:
        yield _overlap(data, row, shared)


def _overlap_fraction(row: OwnRow) -> float:
    fixed, moving = (read_grid(scan.files.image) for scan in row.scans)
    return overlap_fraction(fixed, moving)


def _labels(scan: OwnScan, cache: Cache) -> set[int]:
    path = scan.files.labels
    if path is None:
        return set()
    values = cache.get(path, {"own": "label set"}, lambda: np.unique(read_labels(path)))
    return set(values.tolist()) - {0}


def _unlike_labels(data: OwnDataset, row: OwnRow) -> list[Problem]:
    fixed, moving = (_labels(scan, data.volume_cache) for scan in row.scans)
    if fixed == moving:
        return []
    return [
        Problem(
            where=f"{data.table.path}, {row.name}",
            what="has labels in one scan alone, which are not used",
            expected="the same labels in both",
            found=f"{sorted(fixed - moving)[:10]} in the fixed scan alone, "
            f"{sorted(moving - fixed)[:10]} in the moving one alone",
            remedy="nothing, if a structure lies outside of one scan",
        )
    ]


def _is_same(first: ScanSource, second: ScanSource) -> bool:
    digests = [input_digest(source.path) for source in (first, second)]
    return digests[0] == digests[1] and first.volume == second.volume


def _twice(data: OwnDataset, row: OwnRow) -> Problem:
    fixed, moving = (scan.files.image for scan in row.scans)
    return Problem(
        where=f"{data.table.path}, {row.name}",
        what="names one scan twice",
        expected="two scans",
        found=f"the same voxels in {fixed} and {moving}",
        remedy="name the other scan, or leave out the row",
    )


def _one_side(data: OwnDataset, row: OwnRow, kind: str) -> Problem:
    return Problem(
        where=f"{data.table.path}, {row.name}",
        what=f"has {kind} of one scan, which are not used",
        expected=f"{kind} of both",
        found="one file",
        remedy=f"name the {kind} of the other scan, too",
    )


def _overlap(data: OwnDataset, row: OwnRow, shared: float) -> Problem:
    return Problem(
        where=f"{data.table.path}, {row.name}",
        what="has scans that hardly overlap by their headers",
        expected=f"at least {100 * _LITTLE_OVERLAP:.0f} % of the smaller field of view in both",
        found=f"{100 * shared:.0f} % of {row.scans[0].files.image} and {row.scans[1].files.image}",
        remedy="correct the headers; or start from the middles of the scans (data.start=centres; "
        "l2reg check: --start centres), with data.prealign=rigid if they are turned",
    )


def _size(grid: ImageGrid) -> str:
    return " x ".join(map(str, grid.shape))


def _problems_of(check: Callable[[], object]) -> list[Problem]:
    """Return the problems of the ``InputError`` that a check raises, if any."""
    try:
        check()
    except InputError as error:
        return list(error.problems)
    return []
