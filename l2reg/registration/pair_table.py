"""Pair tables: CSV files with two scans a row, and what is known about them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l2reg.registration.scan_files import ScanFiles
from l2reg.registration.table_rows import VOLUME, TableRow, read_rows
from l2reg.registration.transform_reader import transform_path
from l2reg.registration.warp_files import Coordinates, check_coordinates

_SIDES = ("fixed", "moving")
_KINDS = ("mask", "labels", "points")
_OF_SPLITS = ("subject", "fixed_subject", "moving_subject", "split")  # which task=own reads
COLUMNS = (
    *(*_SIDES, "name", "initial"),
    *(f"{side}_{kind}" for side in _SIDES for kind in (*_KINDS, "channel", VOLUME)),
    *_OF_SPLITS,
)


@dataclass(frozen=True)
class PairRow:
    """A row of a pair table.

    Attributes:
        name: Name of the folder that the pair's results go to.
        fixed: The fixed scan.
        moving: The moving scan.
        initial: Affine transform to start from, as of ``register``.
        cells: The cells of the row that are not empty, by column.
    """

    name: str
    fixed: ScanFiles
    moving: ScanFiles
    initial: str | None
    cells: Mapping[str, str]


def read_pair_table(
    path: Path, coordinates: Coordinates | None = None, volume: int | None = None
) -> list[PairRow]:
    """Read the pairs of a table; whether their files exist is not looked at.

    Args:
        path: CSV file with the columns ``fixed`` and ``moving``, and any others of ``COLUMNS``.
            Several channels of a scan are separated by semicolons; ``fixed_volume`` and
            ``moving_volume`` name one of several volumes, counted from 0.
            Paths count from the folder of the table. Pairs without ``name`` are called
            ``pair_001`` and so on, by their row.
        coordinates: Coordinates of the landmarks, if there are any.
        volume: Which volume of scans with several of them, where the row does not say.

    Raises:
        InputError: If the file is missing, has other columns, no pair, a row without two scans, or
            names that are no folder's or occur twice; all faulty rows are listed.
    """
    rows = read_rows(path, COLUMNS, _SIDES, default_name="pair")
    return [_pair_row(path.absolute().parent, row, coordinates, volume) for row in rows]


def _pair_row(
    folder: Path, row: TableRow, coordinates: Coordinates | None, volume: int | None
) -> PairRow:
    fixed, moving = (
        scan_files(folder, row.cells, side, f"{side}_", coordinates, volume) for side in _SIDES
    )
    initial = row.cells.get("initial")
    if initial is not None:
        file = transform_path(initial)
        initial = f"{initial.removesuffix(str(file))}{folder / file}"
    return PairRow(row.name, fixed, moving, initial, row.cells)


def scan_files(
    folder: Path,
    cells: Mapping[str, str],
    column: str,
    prefix: str,
    coordinates: Coordinates | None,
    volume: int | None = None,
) -> ScanFiles:
    """Return the files of a scan that a row names.

    Args:
        folder: Folder that paths count from.
        cells: The cells of the row.
        column: Column of the scan.
        prefix: What precedes ``mask``, ``labels``, ``points`` and ``volume`` in the names of their
            columns.
        coordinates: Coordinates of the landmarks; required if there are any.
        volume: Which of several volumes it is, where the row does not say.
    """
    if prefix + VOLUME in cells:
        volume = int(cells[prefix + VOLUME])
    paths: dict[str, Any] = {k: folder / cells[prefix + k] for k in _KINDS if prefix + k in cells}
    names = cells.get(f"{prefix}channel", "").split(";")
    channels = [folder / name.strip() for name in names if name.strip()]
    known = check_coordinates(coordinates) if "points" in paths else "ras"
    return ScanFiles(
        folder / cells[column], volume=volume, coordinates=known, channels=channels, **paths
    )
