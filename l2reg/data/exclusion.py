"""Exclusion of scans by id or file stem: the entries of ``data.exclude``."""

import difflib
import re
from collections.abc import Collection, Iterable

from l2reg.problems import InputError, Problem
from l2reg.wording import quantity

_NUMBER = re.compile(r"[0-9]+")
_N_NEAREST = 3  # ids that a message suggests


def exclusion_keys(entries: object) -> frozenset[str]:
    """Return the entries of ``data.exclude`` as ids without leading zeros, or file stems.

    Ids compare as numbers: ``3``, ``"3"`` and ``"0003"`` are the same key.

    Args:
        entries: Ids or file stems; a single one needs no list.
    """
    return frozenset(map(_key, _as_list(entries)))


def check_exclusion(
    entries: object, *, task: str, ids: Collection[int], stems: Collection[str]
) -> None:
    """Refuse entries of ``data.exclude`` that name no scan.

    Args:
        entries: Ids or file stems; a single one needs no list.
        task: Name of the task, for the message.
        ids: Ids of all scans of the task, on disk or in its pair lists.
        stems: Names of their image files, without ``.nii`` and ``.nii.gz``.

    Raises:
        InputError: If an entry is neither an id nor a file stem; the message names the nearest.
    """
    problems = [
        Problem(
            where=f"data.exclude={entry}",
            what=f"names no scan of task {task}",
            expected=_all_names(ids, stems),
            found=repr(entry),
            remedy=_nearest(_key(entry), ids, stems),
        )
        for entry in _as_list(entries)
        if not _names_scan(entry, ids, stems)
    ]
    if problems:
        raise InputError(problems)


def known_entries(entries: object, *, ids: Collection[int], stems: Collection[str]) -> list[object]:
    """Return the entries of ``data.exclude`` that name a scan; arguments of ``check_exclusion``."""
    return [entry for entry in _as_list(entries) if _names_scan(entry, ids, stems)]


def file_stem(name: str) -> str:
    """Return the name of a volume's file without ``.nii`` or ``.nii.gz``."""
    return name.removesuffix(".gz").removesuffix(".nii")


def _as_list(entries: object) -> list[object]:
    if isinstance(entries, str) or not isinstance(entries, Iterable):
        return [] if entries is None else [entries]
    return list(entries)


def _key(entry: object) -> str:
    text = str(entry)
    return str(int(text)) if _NUMBER.fullmatch(text) else text


def _names_scan(entry: object, ids: Collection[int], stems: Collection[str]) -> bool:
    key = _key(entry)
    return key in stems or key in map(str, ids)


def _all_names(ids: Collection[int], stems: Collection[str]) -> str:
    if not ids:
        return "an id or a file stem of a scan"
    return (
        f"one of {quantity(len(ids), 'id')} from {min(ids)} to {max(ids)}, or a file stem such as "
        f"{min(stems)}"
    )


def _nearest(key: str, ids: Collection[int], stems: Collection[str]) -> str:
    """Return a remedy that names the ids or the stem next to an unknown key."""
    if _NUMBER.fullmatch(key):
        by_distance = sorted(ids, key=lambda number: (abs(number - int(key)), number))
        close = [str(number) for number in sorted(by_distance[:_N_NEAREST])]
    else:
        close = difflib.get_close_matches(file_stem(key), stems, n=1)
    if not close:
        return "remove the entry (data.exclude=[]), or name the scan by its id"
    return f"the nearest: {', '.join(close)}; correct the entry or remove it (data.exclude=[])"
