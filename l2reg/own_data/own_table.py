"""Table of one's own data: pairs of scans, or single scans to be paired, and their subjects."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from l2reg.io.scan_source import ScanSource
from l2reg.problems import InputError, Problem, raise_if_any
from l2reg.registration.pair_table import read_pair_table, scan_files
from l2reg.registration.scan_files import ScanFiles
from l2reg.registration.table_rows import read_columns, read_rows
from l2reg.registration.warp_files import Coordinates
from l2reg.wording import quantity

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
SCAN_COLUMNS = (
    "scan", "name", "mask", "labels", "points", "channel", "volume", "subject", "split",
)  # fmt: skip


@dataclass(frozen=True)
class OwnScan:
    """A scan of a table.

    Attributes:
        files: Its files.
        subject: Whose scan it is; its file, if the table has no column of subjects. None for a
            template, which belongs to nobody.
    """

    files: ScanFiles
    subject: str | None

    @property
    def image(self) -> Path:
        """File of the scan."""
        return self.files.image.path

    @property
    def channels(self) -> tuple[ScanSource, ...]:
        """All of its channels, the scan itself first."""
        return (self.files.image, *self.files.channels)


@dataclass(frozen=True)
class OwnRow:
    """A row of a table.

    Attributes:
        name: Name of the pair or the scan.
        scans: The fixed and the moving scan, or a single one.
        split: What it is for, if the table says.
    """

    name: str
    scans: tuple[OwnScan, ...]
    split: Split | None

    @property
    def subjects(self) -> set[str]:
        """Whose scans they are; a row of templates alone stands for itself."""
        return {s.subject for s in self.scans if s.subject is not None} or {f"row {self.name}"}


@dataclass(frozen=True)
class OwnTable:
    """Table of scans.

    Attributes:
        path: The file.
        rows: Its rows.
        paired: Whether a row is a pair; else scans are paired with each other.
        has_subjects: Whether the table names subjects.
    """

    path: Path
    rows: Sequence[OwnRow]
    paired: bool
    has_subjects: bool

    @property
    def n_channels(self) -> int:
        """Number of channels of every scan."""
        return len(self.rows[0].scans[0].channels)

    @property
    def scans(self) -> Iterator[OwnScan]:
        """Scans of all rows; one of several rows comes several times."""
        for row in self.rows:
            yield from row.scans


def read_own_table(path: Path, coordinates: Coordinates | None) -> OwnTable:
    """Read a table of scans; whether their files exist is not looked at.

    Args:
        path: CSV file of the form of ``l2reg register --batch``, with a pair a row, or with a
            single scan a row: the columns ``scan``, ``mask``, ``labels``, ``points``, ``channel``
            and ``volume``. Either may have the columns ``subject`` (``fixed_subject`` and
            ``moving_subject`` for pairs of two people) and ``split``: ``train``, ``val`` or
            ``test``.
        coordinates: Coordinates of the points, if there are any.

    Raises:
        InputError: If the table is faulty, see ``read_rows``, or says ``split`` in some rows only,
            or has a column that ``task=own`` cannot follow.
    """
    columns = read_columns(path)
    subjects = any(column.endswith("subject") for column in columns)
    if "initial" in columns:
        raise InputError(_initial_column(path))
    if coordinates is None and any(column.endswith("points") for column in columns):
        raise InputError(_no_coordinates(path))
    rows = []
    problems = []
    if "scan" in columns:
        for row in read_rows(path, SCAN_COLUMNS, ("scan",), default_name="scan"):
            files = scan_files(path.absolute().parent, row.cells, "scan", "", coordinates)
            scan = OwnScan(files, _subject(row.cells, "subject", files, known=subjects))
            problems += _split_problems(path, row.name, row.cells, columns)
            rows.append(OwnRow(row.name, (scan,), _split(row.cells)))
    else:
        for pair in read_pair_table(path, coordinates):
            scans = [
                OwnScan(files, _subject(pair.cells, f"{side}_subject", files, known=subjects))
                for side, files in (("fixed", pair.fixed), ("moving", pair.moving))
            ]
            problems += _split_problems(path, pair.name, pair.cells, columns)
            rows.append(OwnRow(pair.name, tuple(scans), _split(pair.cells)))
    raise_if_any([*problems, *_channel_problems(path, rows)])
    return OwnTable(path, rows, "scan" not in columns, subjects)


def _subject(cells: Mapping[str, str], column: str, files: ScanFiles, *, known: bool) -> str | None:
    if not known:
        return str(files.image.path.resolve())
    return cells.get(column) or cells.get("subject")


def _split(cells: Mapping[str, str]) -> Split | None:
    return next((split for split in SPLITS if cells.get("split") == split), None)


def _split_problems(
    path: Path, name: str, cells: Mapping[str, str], columns: Sequence[str]
) -> list[Problem]:
    if "split" not in columns or cells.get("split") in SPLITS:
        return []
    return [
        Problem(
            where=f"{path}, {name}",
            what="is of no split",
            expected=f"{', '.join(SPLITS)} in the column split",
            found=repr(cells.get("split", "")),
            remedy="write what the row is for, or leave out the column: then some subjects are "
            "chosen for validation",
        )
    ]


def _initial_column(path: Path) -> Problem:
    return Problem(
        where=f"{path}, column initial",
        what="is not followed in training",
        expected="pairs that start from their headers, their centres or a search",
        found="transforms to start from",
        remedy="leave out the column, and set data.start=centres or data.prealign=rigid; or write "
        "the transforms into the headers",
    )


def _channel_problems(path: Path, rows: Sequence[OwnRow]) -> list[Problem]:
    """Return a problem for each row whose scans do not have the channels of the first scan."""
    n_first = len(rows[0].scans[0].channels)
    return [
        Problem(
            where=f"{path}, {row.name}",
            what="has another number of channels",
            expected=f"{quantity(n_first, 'channel')} of every scan, in the same order",
            found=" and ".join(str(len(scan.channels)) for scan in row.scans),
            remedy="name as many channels of each scan, with semicolons between; a network takes "
            "one number of them",
        )
        for row in rows
        if any(len(scan.channels) != n_first for scan in row.scans)
    ]


def _no_coordinates(path: Path) -> Problem:
    return Problem(
        where=str(path),
        what="has points of unknown coordinates",
        expected="data.coordinates, or --coordinates: ras, lps or voxels",
        found="neither",
        remedy="data.coordinates=ras, if the files are in mm as 3D Slicer shows them",
    )
