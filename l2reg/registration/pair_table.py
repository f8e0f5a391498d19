"""Pair tables: CSV files with two scans a row, and what is known about them."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l2reg.problems import InputError, Problem, raise_if_any, suggest
from l2reg.registration.scan_files import ScanFiles
from l2reg.registration.transform_reader import transform_path
from l2reg.registration.warp_files import Coordinates, check_coordinates

_SIDES = ("fixed", "moving")
_KINDS = ("mask", "labels", "points")
COLUMNS = (
    *(*_SIDES, "name", "initial"),
    *(f"{side}_{kind}" for side in _SIDES for kind in (*_KINDS, "channel")),
)
_EXPECTED = f"a header line with some of {', '.join(COLUMNS)}, and one pair of scans a line"
_REMEDY = "write a CSV file whose first line is fixed,moving"


@dataclass(frozen=True)
class PairRow:
    """A row of a pair table.

    Attributes:
        name: Name of the folder that the pair's results go to.
        fixed: The fixed scan.
        moving: The moving scan.
        initial: Affine transform to start from, as of ``register``.
    """

    name: str
    fixed: ScanFiles
    moving: ScanFiles
    initial: str | None


def read_pair_table(
    path: Path, coordinates: Coordinates | None = None, volume: int | None = None
) -> list[PairRow]:
    """Read the pairs of a table; whether their files exist is not looked at.

    Args:
        path: CSV file with the columns ``fixed`` and ``moving``, and any others of ``COLUMNS``.
            Several channels of a scan are separated by semicolons.
            Paths count from the folder of the table. Pairs without ``name`` are called
            ``pair_001`` and so on, by their row.
        coordinates: Coordinates of the landmarks, if there are any.
        volume: Which volume of scans with several of them, counted from 0.

    Raises:
        InputError: If the file is missing, has other columns, no pair, a row without two scans, or
            names that are no folder's or occur twice; all faulty rows are listed.
    """
    header, *lines = _read_lines(path) or [[]]
    columns = [name.strip().lower() for name in header]
    _check_columns(path, columns)
    rows, problems = [], []
    for number, line in enumerate(lines, start=1):
        cells = dict(zip(columns, (cell.strip() for cell in line), strict=False))
        cells["name"] = cells.get("name") or f"pair_{number:03d}"
        if fault := _fault(cells, len(line) - len(columns)):
            problems.append(_problem(f"{path}, row {number}", *fault))
        else:
            rows.append(_pair_row(path.absolute().parent, cells, coordinates, volume))
    counts = Counter(row.name for row in rows)
    problems += [
        _problem(str(path), "names two pairs alike", "names that occur once", f"{name!r} {n} times")
        for name, n in counts.items()
        if n > 1
    ]
    if not lines:
        problems.append(_problem(str(path), "lists no pair", _EXPECTED, "no row below the header"))
    raise_if_any(problems)
    return rows


def _read_lines(path: Path) -> list[list[str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = csv.reader(text.splitlines(), skipinitialspace=True, strict=True)
        return [row for row in rows if any(cell.strip() for cell in row)]
    except (FileNotFoundError, IsADirectoryError, UnicodeDecodeError, csv.Error) as error:
        found = "no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise InputError(
            _problem(str(path), "cannot be read as a table of pairs", _EXPECTED, found)
        ) from error


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    problems = [
        Problem(
            where=str(path),
            what=f"has the unknown column {name!r}",
            expected=_EXPECTED,
            found=", ".join(columns),
            remedy=suggest(name, COLUMNS),
        )
        for name in columns
        if name not in COLUMNS
    ]
    lacking = [name for name in _SIDES if name not in columns]
    if lacking or len(set(columns)) < len(columns):
        what = f"has no column {lacking[0]!r}" if lacking else "has a column twice"
        found = ", ".join(columns) or "an empty file"
        problems.append(_problem(str(path), what, _EXPECTED, found))
    raise_if_any(problems)


def _fault(cells: Mapping[str, str], n_surplus: int) -> tuple[str, str, str] | None:
    """Return what is wrong with a row, what was expected and what was found."""
    line = ",".join(cells.values())
    if n_surplus > 0:
        return "has more cells than the header", "a cell for each column", repr(line)
    if not (cells.get("fixed") and cells.get("moving")):
        return "does not name two scans", "a fixed and a moving scan", repr(line)
    name = cells["name"]
    if Path(name).name != name or name.startswith("."):
        return "has a name that is no folder's", "a name without '/' and leading dot", repr(name)
    return None


def _pair_row(
    folder: Path, cells: Mapping[str, str], coordinates: Coordinates | None, volume: int | None
) -> PairRow:
    fixed, moving = (_scan_files(folder, cells, side, coordinates, volume) for side in _SIDES)
    initial = cells.get("initial") or None
    if initial is not None:
        file = transform_path(initial)
        initial = f"{initial.removesuffix(str(file))}{folder / file}"
    return PairRow(cells["name"], fixed, moving, initial)


def _scan_files(
    folder: Path,
    cells: Mapping[str, str],
    side: str,
    coordinates: Coordinates | None,
    volume: int | None,
) -> ScanFiles:
    others = {kind: cells.get(f"{side}_{kind}") for kind in _KINDS}
    paths: dict[str, Any] = {kind: folder / name for kind, name in others.items() if name}
    names = (cells.get(f"{side}_channel") or "").split(";")
    channels = [folder / name.strip() for name in names if name.strip()]
    known = check_coordinates(coordinates) if "points" in paths else "ras"
    return ScanFiles(
        folder / cells[side], volume=volume, coordinates=known, channels=channels, **paths
    )


def _problem(where: str, what: str, expected: str, found: str) -> Problem:
    return Problem(where=where, what=what, expected=expected, found=found, remedy=_REMEDY)
