"""Splits of one's own data by subject: nobody's scans are both trained on and scored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from l2reg.own_data.own_table import OwnRow, OwnTable, Split
from l2reg.problems import InputError, Problem, raise_if_any
from l2reg.wording import quantity

_N_NAMED = 8  # subjects that a message names


@dataclass(frozen=True)
class Splits:
    """Rows of a table by what they are for.

    Attributes:
        rows: Rows of each split, in the order of the table.
        said: How they were chosen, in words.
    """

    rows: Mapping[Split, Sequence[OwnRow]]
    said: Sequence[str]


def split_rows(table: OwnTable, *, val_fraction: float, seed: int) -> Splits:
    """Return the rows of each split; none shares a subject with another one.

    What the table says counts. If it names no row ``val``, a share of the subjects that are trained
    on is chosen at random. Subjects that appear in one row stay together. Where that connects all
    of them, as in a table of all pairs of a few people, single subjects are chosen, and pairs of a
    chosen and another subject are left out.

    Args:
        table: The table.
        val_fraction: Fraction of the subjects that are kept for validation, in [0, 1).
        seed: Seed of the choice.

    Raises:
        InputError: If a subject is in two splits of the table, or there are too few to choose from.
    """
    given: dict[Split, list[OwnRow]] = {"train": [], "val": [], "test": []}
    for row in table.rows:
        given[row.split or "train"].append(row)
    raise_if_any(_leaks(table, given))
    said = [] if table.has_subjects else [_UNITS[table.paired]]
    if given["val"] or val_fraction == 0 or not given["train"]:
        return Splits(given, said)
    groups = _groups(given["train"])
    if len(groups) == 1:
        groups = [{subject} for subject in sorted(groups[0])]
    n_least = 1 if table.paired else 2  # single scans are paired within a split
    n_val = max(n_least, round(val_fraction * len(groups)))
    order = np.random.default_rng(seed).permutation(len(groups))
    chosen = set().union(*(groups[n] for n in order[:n_val]))
    rows = given["train"]
    given["val"] = [row for row in rows if row.subjects <= chosen]
    given["train"] = [row for row in rows if not row.subjects & chosen]
    if len(groups) < n_val + n_least or not (given["val"] and given["train"]):
        raise InputError(_too_few(table, groups))
    names = ", ".join(sorted(chosen)[:_N_NAMED]) + (", ..." if len(chosen) > _N_NAMED else "")
    said.append(
        f"the table names no row val: seed {seed} keeps {len(given['val'])} of {len(rows)} for "
        f"validation: {names}"
    )
    if n_across := len(rows) - len(given["val"]) - len(given["train"]):
        said.append(f"left out, of somebody of either side: {quantity(n_across, 'pair')}")
    return Splits(given, said)


_UNITS = {
    True: "the table has no column subject: each pair is taken as a person of its own, pairs that "
    "share a file as the same one",
    False: "the table has no column subject: each scan is taken as a person of its own",
}


def _groups(rows: Sequence[OwnRow]) -> list[set[str]]:
    """Return the subjects in groups that no row connects, sorted."""
    groups: list[set[str]] = []
    for row in rows:
        touched = [group for group in groups if group & row.subjects]
        groups = [group for group in groups if group not in touched]
        groups.append(row.subjects.union(*touched))
    return sorted(groups, key=min)


def _leaks(table: OwnTable, rows: Mapping[Split, Sequence[OwnRow]]) -> list[Problem]:
    """Return a problem for every subject that is trained on and scored."""
    found: dict[str, dict[Split, str]] = {}
    for split, each in rows.items():
        for row in each:
            for subject in row.subjects:
                found.setdefault(subject, {}).setdefault(split, row.name)
    return [
        Problem(
            where=f"{table.path}, subject {subject}",
            what="is in two splits",
            expected="rows of one split",
            found=", ".join(f"{split} ({name})" for split, name in names.items()),
            remedy="give all rows of the subject the same split; a template that all share is "
            "marked by an empty cell of subject",
        )
        for subject, names in sorted(found.items())
        if len(names) > 1
    ]


def _too_few(table: OwnTable, groups: Sequence[set[str]]) -> Problem:
    return Problem(
        where=str(table.path),
        what="has too few subjects to keep some for validation",
        expected="pairs of 2 people, or single scans of 4, at least",
        found=f"{quantity(len(table.rows), 'row')} of "
        f"{quantity(len(set().union(*groups)), 'subject')}",
        remedy="add scans; or do without validation: data.val_fraction=0.0 "
        "trainer.validate_every=0; an empty cell of subject marks a template that all share",
    )
