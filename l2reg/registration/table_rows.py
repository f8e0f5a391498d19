"""Rows of a user's CSV table of scans: read with checks of its columns, cells and names."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from l2reg.problems import InputError, Problem, raise_if_any, suggest

VOLUME = "volume"  # end of the names of columns with the number of a volume


@dataclass(frozen=True)
class TableRow:
    """A row of a table.

    Attributes:
        name: Its name, which no other row has, and which a folder can have.
        cells: Its cells that are not empty, by column.
    """

    name: str
    cells: Mapping[str, str]


def read_columns(path: Path) -> list[str]:
    """Return the names of the columns of a table.

    Raises:
        InputError: If the file is missing or no table.
    """
    return _columns(_read_lines(path))


def read_rows(
    path: Path, columns: Sequence[str], required: Sequence[str], default_name: str
) -> list[TableRow]:
    """Read the rows of a table.

    Args:
        path: CSV file.
        columns: Columns that it may have.
        required: Those that it must have, with a scan in each row.
        default_name: What rows without ``name`` are called, followed by their number.

    Raises:
        InputError: If the file is missing, has other columns, no row, a row without scans, or names
            that are no folder's or occur twice, or volumes that are no numbers; all faulty rows are
            listed.
    """
    form = _Form(path, columns, required)
    lines = _read_lines(path)
    names = _columns(lines)
    form.check_columns(names)
    rows, problems = [], []
    for number, line in enumerate(lines[1:], start=1):
        cells = dict(zip(names, (cell.strip() for cell in line), strict=False))
        cells = {column: cell for column, cell in cells.items() if cell}
        name = cells.get("name", f"{default_name}_{number:03d}")
        if fault := form.fault(line, cells, name, len(names)):
            problems.append(form.problem(f"{path}, row {number}", *fault))
        else:
            rows.append(TableRow(name, cells))
    counts = Counter(row.name for row in rows)
    problems += [
        form.problem(
            str(path), "names two rows alike", "names that occur once", f"{name!r} {n} times"
        )
        for name, n in counts.items()
        if n > 1
    ]
    if len(lines) < 2:
        problems.append(
            form.problem(str(path), "lists no scan", form.expected, "no row below the header")
        )
    raise_if_any(problems)
    return rows


@dataclass(frozen=True)
class _Form:
    """What a table must look like."""

    path: Path
    columns: Sequence[str]
    required: Sequence[str]

    @property
    def expected(self) -> str:
        names = ", ".join(self.columns)
        return f"a header line with some of {names}, with commas between, and rows below it"

    def problem(self, where: str, what: str, expected: str, found: str) -> Problem:
        remedy = f"write a CSV file whose first line is {','.join(self.required)}"
        return Problem(where=where, what=what, expected=expected, found=found, remedy=remedy)

    def check_columns(self, names: Sequence[str]) -> None:
        if names and not set(names) & set(self.columns):
            what, found = "does not begin with the names of columns", repr(",".join(names))
            raise InputError(self.problem(str(self.path), what, self.expected, found))
        problems = [
            Problem(
                where=str(self.path),
                what=f"has the unknown column {name!r}",
                expected=self.expected,
                found=", ".join(names),
                remedy=suggest(name, self.columns),
            )
            for name in names
            if name not in self.columns
        ]
        lacking = [name for name in self.required if name not in names]
        if lacking or len(set(names)) < len(names):
            what = f"has no column {lacking[0]!r}" if lacking else "has a column twice"
            found = ", ".join(names) or "an empty file"
            problems.append(self.problem(str(self.path), what, self.expected, found))
        raise_if_any(problems)

    def fault(
        self, line: Sequence[str], cells: Mapping[str, str], name: str, n_columns: int
    ) -> tuple[str, str, str] | None:
        """Return what is wrong with a row, what was expected and what was found."""
        found = repr(",".join(line))
        if len(line) > n_columns:
            return "has more cells than the header", "a cell for each column", found
        if any(column not in cells for column in self.required):
            needed = " and ".join(self.required)
            return f"does not name {needed}", f"a file in each column {needed}", found
        if wrong := [c for c in cells if c.endswith(VOLUME) and not cells[c].isdecimal()]:
            return (
                "does not number a volume",
                f"a whole number from 0 in the column {wrong[0]}",
                found,
            )
        if Path(name).name != name or name.startswith("."):
            return (
                "has a name that is no folder's",
                "a name without '/' and leading dot",
                repr(name),
            )
        return None


def _columns(lines: Sequence[Sequence[str]]) -> list[str]:
    return [name.strip().lower() for name in lines[0]]


def _read_lines(path: Path) -> list[list[str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = csv.reader(text.splitlines(), skipinitialspace=True, strict=True)
        return [row for row in rows if any(cell.strip() for cell in row)] or [[]]
    except (FileNotFoundError, IsADirectoryError, UnicodeDecodeError, csv.Error) as error:
        found = "no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise InputError(
            Problem(
                where=str(path),
                what="cannot be read as a table of scans",
                expected="a CSV file, its columns named in the first line",
                found=found,
                remedy="write a CSV file whose first line is fixed,moving",
            )
        ) from error
