"""Point tables: one scan's points in CSV, with a header and further columns that are kept."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from l2reg.io.files import atomic_write
from l2reg.problems import InputError, Problem

_COORDINATES = (("x", "y", "z"), ("i", "j", "k"), ("r", "a", "s"), ("l", "p", "s"))


@dataclass(frozen=True)
class PointTable:
    """Points and what else stands in their file.

    Attributes:
        points: The numbers of the first three columns.
        header: The first line, if it has no numbers.
        others: What follows the first three columns of each row, with its comma.
    """

    points: Float64[np.ndarray, "n 3"]
    header: str | None
    others: tuple[str, ...]


def read_point_table(path: Path) -> PointTable:
    """Read points from rows of at least three columns, separated by commas.

    Raises:
        InputError: If the file is missing or empty, a row does not begin with three finite numbers
            (it names the line), or the header names coordinates in other columns.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError, UnicodeDecodeError) as error:
        raise InputError(_problem(path, str(error))) from error
    lines = [(n, line) for n, line in enumerate(text.splitlines(), start=1) if line.strip()]
    header = None
    if lines and not _split(lines[0][1])[0]:
        header = lines.pop(0)[1]
        _check_header(path, header)
    if not lines:
        raise InputError(_problem(path, "no row"))
    rows = list(_rows(path, lines))
    points = np.array([numbers for numbers, _ in rows])
    return PointTable(points, header, tuple(other for _, other in rows))


def _check_header(path: Path, header: str) -> None:
    """Raise ``InputError`` if a header names coordinates, and not by its first three columns."""
    columns = [name.strip().strip("\"'").lower() for name in header.split(",")]
    for names in _COORDINATES:
        if set(names) <= set(columns) and tuple(columns[:3]) != names:
            numbers = " ".join(str(columns.index(name) + 1) for name in names)
            raise InputError(
                Problem(
                    where=str(path),
                    what="does not have its coordinates in the first three columns",
                    expected=f"a header that begins with {','.join(names)}",
                    found=f"{header.strip()!r}: {', '.join(names)} in the columns {numbers}",
                    remedy=f"move {', '.join(names)} to the front; other columns may follow",
                )
            )


def write_point_table(path: Path, table: PointTable) -> None:
    """Write points with six decimals, and the header and further columns as they were."""
    lines = [] if table.header is None else [table.header]
    for point, other in zip(table.points, table.others, strict=True):
        lines.append(",".join(f"{value:.6f}" for value in point) + other)
    with atomic_write(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _rows(path: Path, lines: list[tuple[int, str]]) -> Iterator[tuple[list[float], str]]:
    for n, line in lines:
        numbers, other = _split(line)
        if len(numbers) != 3 or not np.isfinite(numbers).all():
            raise InputError(_problem(path, f"line {n}: {line.strip()!r}"))
        yield numbers, other


def _split(line: str) -> tuple[list[float], str]:
    """Return the numbers of the first three columns, none if one is not a number, and the rest."""
    words = line.split(",", 3)
    try:
        numbers = [float(word) for word in words[:3]]
    except ValueError:
        numbers = []
    return numbers, "".join(f",{rest}" for rest in words[3:])


def _problem(path: Path, found: str) -> Problem:
    return Problem(
        where=str(path),
        what="is not a table of points",
        expected="rows that begin with three numbers, separated by commas; a header may precede",
        found=found,
        remedy="write one point a row: x,y,z in mm, or i,j,k in voxels counted from 0",
    )
