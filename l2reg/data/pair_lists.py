"""Pair lists: the challenge's CSV files and the JSON description of later releases."""

import csv
import json
import re
from pathlib import Path
from typing import Any

from l2reg.problems import InputError, Problem

IdPair = tuple[int, int]

_CASE_IN_NAME = re.compile(r"_(\d{4})_\d{4}\.nii\.gz$")


def read_csv(path: Path) -> list[IdPair]:
    """Return the (fixed, moving) ids of a CSV file such as ``pairs_val.csv``.

    The file has the header ``fixed, moving`` and one pair of ids a line.

    Raises:
        InputError: If the file is missing, has other columns, no pair, or rows that are not two
            integers.
    """
    expected = "a header line 'fixed, moving' and one pair of scan numbers a line, such as '1, 2'"
    remedy = "write the list as the challenge's pairs_val.csv"
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
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.reader(file, skipinitialspace=True) if row]
    if not rows or [name.strip().lower() for name in rows[0]] != ["fixed", "moving"]:
        found = f"first line {', '.join(rows[0])!r}" if rows else "an empty file"
        raise InputError(
            Problem(
                where=str(path),
                what="has the wrong columns",
                expected=expected,
                found=found,
                remedy=remedy,
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
                    expected=expected,
                    found=line,
                    remedy=remedy,
                )
            )
        else:
            pairs.append((fixed, moving))
    if not problems and not pairs:
        problems = [
            Problem(
                where=str(path),
                what="lists no pair",
                expected=expected,
                found="only the header",
                remedy=remedy,
            )
        ]
    if problems:
        raise InputError(problems)
    return pairs


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
        content: Any = json.loads(path.read_text(encoding="utf-8-sig"))
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
