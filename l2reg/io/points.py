"""Point files: keypoints and landmarks, corresponding points of two scans in voxels."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from l2reg.problems import InputError, Problem
from l2reg.wording import quantity


def read_points(
    paths: Sequence[Path], *, reverse: bool = False
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]]:
    """Return corresponding points of the fixed and of the moving scan, in voxels.

    Args:
        paths: One file of six columns, or two files of three columns; without header.
        reverse: Whether the first three columns belong to the moving scan.

    Raises:
        InputError: If a file is missing, is not a table of numbers, or has the wrong columns.
    """
    tables = [_read_table(path, columns=6 // len(paths)) for path in paths]
    if len({len(table) for table in tables}) > 1:
        rows = ", ".join(f"{len(t)} in {p}" for t, p in zip(tables, paths, strict=True))
        raise InputError(
            Problem(
                where=str(paths[-1]),
                what="does not correspond to the points of the other scan",
                expected="the same number of rows in both files",
                found=f"rows: {rows}",
                remedy="download both files again; row n of one belongs to row n of the other",
            )
        )
    table = np.concatenate(tables, axis=1)
    first, second = table[:, :3], table[:, 3:]
    return (second, first) if reverse else (first, second)


def _read_table(path: Path, *, columns: int) -> Float[np.ndarray, "n c"]:
    expected = f"rows of {columns} numbers, separated by commas, without a header"
    remedy = "see docs/conventions.md for the columns"
    if not path.is_file():
        raise InputError(
            Problem(
                where=str(path),
                what="is missing",
                expected=expected,
                found="no such file",
                remedy=remedy,
            )
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
        lines = [line for line in text.splitlines() if line.strip()]
        if not lines:
            raise ValueError("an empty file")
        table = np.loadtxt(lines, delimiter=",", ndmin=2, dtype=np.float64)
    except ValueError as error:
        raise InputError(
            Problem(
                where=str(path),
                what="is not a table of points",
                expected=expected,
                found=str(error),
                remedy=remedy,
            )
        ) from error
    if table.shape[1] != columns or not np.isfinite(table).all():
        finite = "" if np.isfinite(table).all() else ", not all of them finite"
        raise InputError(
            Problem(
                where=str(path),
                what="has the wrong columns",
                expected=expected,
                found=f"{quantity(table.shape[0], 'row')} of "
                f"{quantity(table.shape[1], 'column')}{finite}",
                remedy=remedy,
            )
        )
    return table
