"""Pair lists: the challenge's CSV files and the JSON description of later releases."""

import csv
import re
from pathlib import Path
from typing import Any

from l2reg.io.files import load_json
from l2reg.problems import InputError, Problem

IdPair = tuple[int, int]

_EXPECTED = "a header line 'fixed, moving' and one pair of scan numbers a line, such as '1, 2'"
_REMEDY = "write the list as the challenge's pairs_val.csv"
_CASE_IN_NAME = re.compile(r"_(\d{4})_\d{4}\.nii\.gz$")


def read_csv(path: Path) -> list[IdPair]:
    """Return the (fixed, moving) ids of a CSV file such as ``pairs_val.csv``.

    The file has the header ``fixed, moving`` and one pair of ids a line.

    Raises:
        InputError: If the file is missing, has other columns, no pair, or rows that are not two
            integers.
    """
    rows = _rows(path)
    if not rows or [name.strip().lower() for name in rows[0]] != ["fixed", "moving"]:
        found = f"first line {', '.join(rows[0])!r}" if rows else "an empty file"
        raise InputError(
            Problem(
                where=str(path),
                what="has the wrong columns",
                expected=_EXPECTED,
                found=found,
                remedy=_REMEDY,
            )
        )
    problems, pairs = [], []
    for number, row in enumerate(rows[1:], start=2):
        try:
            fixed, moving = (int(value) for value in row)
        except ValueError:
            line = f"line {number}: {', '.join(row)!r}"
            problems.append(
                Problem(
                    where=str(path),
                    what="has an invalid line",
                    expected=_EXPECTED,
                    found=line,
                    remedy=_REMEDY,
                )
            )
        else:
            pairs.append((fixed, moving))
    if not problems and not pairs:
        problems = [
            Problem(
                where=str(path),
                what="lists no pair",
                expected=_EXPECTED,
                found="only the header",
                remedy=_REMEDY,
            )
        ]
    if problems:
        raise InputError(problems)
    return pairs


def _rows(path: Path) -> list[list[str]]:
    """Return the rows of a CSV file that are not empty."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        return [row for row in csv.reader(lines, skipinitialspace=True) if row]
    except (OSError, ValueError, csv.Error) as error:
        is_missing = not path.is_file()
        raise InputError(
            Problem(
                where=str(path),
                what="is missing" if is_missing else "cannot be read as a list of pairs",
                expected=_EXPECTED,
                found="no such file" if is_missing else str(error),
                remedy=_REMEDY,
            )
        ) from error


def read_json(path: Path, key: str) -> list[IdPair] | None:
    """Return the (fixed, moving) ids of a ``<Task>_dataset.json``.

    Args:
        path: JSON file.
        key: Key of the list of pairs, such as ``registration_val``.

    Returns:
        ``None`` if the file has no such key.

    Raises:
        InputError: If the file is not JSON, or an entry does not name two scans.
    """
    remedy = "download the task's dataset json again"
    try:
        content: Any = load_json(path)
        entries = content.get(key)
        if entries is None:
            return None
        return [(_case(entry["fixed"]), _case(entry["moving"])) for entry in entries]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            Problem(
                where=f"{path}, {key}",
                what="cannot be read as a list of pairs",
                expected='entries {"fixed": "./imagesTr/<Task>_0001_0000.nii.gz", "moving": ...}',
                found=f"{type(error).__name__}: {error}",
                remedy=remedy,
            )
        ) from error


def _case(name: str) -> int:
    """Return the id of a file such as ``LungCT_0001_0000.nii.gz``: the first of two numbers."""
    match = _CASE_IN_NAME.search(name)
    if match is None:
        raise ValueError(f"{name!r} does not end in _<case>_<modality>.nii.gz")
    return int(match.group(1))
