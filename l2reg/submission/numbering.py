"""Numbering of a submission: the release whose ids name its fields, decided once for all of them.

Later releases number the scans of a task differently: 0009 is one patient in 2021 and another one
today. So a field must not be looked up by the ids of one release and the next by those of the
other.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from l2reg.data.pairs import Pair
from l2reg.data.task import Layout, Task
from l2reg.problems import InputError, Problem
from l2reg.submission.rules import Rules

OFFICIAL = "2021"  # the release that ``Pair.name`` takes its ids from
_N_SHOWN = 4  # names in a message


@dataclass(frozen=True)
class PairNames:
    """Names of the same pairs, in the same order, in each release of a task.

    Attributes:
        by_release: Names such as ``0438_0439``, by the release that numbers the scans so.
        expected: Release whose names the organisers look for.
    """

    by_release: Mapping[str, Sequence[str]]
    expected: str


def pair_names(pairs: Sequence[Pair], task: Task, rules: Rules) -> PairNames:
    """Return the names of pairs: the organisers look for those of 2021, later for the data's."""
    by_release = {OFFICIAL: [pair.name for pair in pairs]}
    in_layout = [pair.name_in_layout for pair in pairs]
    renumbered = in_layout != by_release[OFFICIAL]
    if "current" in task.layouts:
        current = task.layouts["current"]
        by_release["current"] = in_layout if renumbered else [_renumber(p, current) for p in pairs]
    return PairNames(by_release, "current" if rules.full_resolution and renumbered else OFFICIAL)


def official_names(task: Task, split: str, rules: Rules) -> PairNames:
    """Return the names of the pairs that the organisers evaluate, from the YAML of the task.

    Args:
        task: Task with the layouts of its releases; each generation of rules takes its pairs from
            the layout of the same name.
        split: ``val`` or ``test``.
        rules: Rules of the evaluation.
    """
    return PairNames(
        {name: _list_names(layout, split) for name, layout in task.layouts.items()}, rules.name
    )


def choose_release(present: Collection[str], names: PairNames, task: Task, where: str) -> str:
    """Return the release whose ids name the fields of a submission.

    It is the one in which fewer pairs lack a field, and fewer fields belong to other pairs.

    Args:
        present: Ids in the names of the submitted fields.
        names: Names of the pairs that are scored.
        task: Task with the official pairs of each release.
        where: Path of the submission, for the message.

    Raises:
        InputError: If the fields fit two releases that give one field to different pairs.
    """
    releases = sorted(names.by_release, key=lambda name: name != names.expected)
    fields = {name: _fields_of(present, names.by_release[name]) for name in releases}
    misfits = {
        name: _misfit(present, names.by_release[name], task.layouts.get(name)) for name in releases
    }
    fitting = [
        name
        for name in releases
        if all(misfits[name][n] <= other[n] for other in misfits.values() for n in (0, 1))
    ]
    choices = fitting or releases
    if any(fields[name] != fields[choices[0]] for name in choices):
        raise InputError(_ambiguous(present, names, task, where))
    return choices[0]


def _renumber(pair: Pair, layout: Layout) -> str:
    """Return the name of a pair of the release of 2021 in a later one."""
    fixed, moving = map(layout.id_of_official, (pair.fixed.official_id, pair.moving.official_id))
    return f"{fixed:04}_{moving:04}"


def _list_names(layout: Layout, split: str) -> list[str]:
    pairs = layout.val if split == "val" else layout.test
    return [f"{fixed:04}_{moving:04}" for fixed, moving in pairs]


def _fields_of(present: Collection[str], names: Sequence[str]) -> list[str | None]:
    """Return the field of each pair, ``None`` if it is missing."""
    return [name if name in present else None for name in names]


def _misfit(
    present: Collection[str], names: Sequence[str], layout: Layout | None
) -> tuple[int, int]:
    """Return the number of pairs without a field, and of fields of other pairs.

    The fields of another split are none of these, if all of them are there.
    """
    known = set(names)
    splits = [] if layout is None else [_list_names(layout, split) for split in ("val", "test")]
    known |= {name for split in splits if set(split) <= set(present) for name in split}
    return sum(name not in present for name in names), sum(name not in known for name in present)


def _ambiguous(present: Collection[str], names: PairNames, task: Task, where: str) -> Problem:
    return Problem(
        where=where,
        what=f"names its fields so that they fit two releases of task {task.name}, which number "
        "the scans differently",
        expected="fields for all pairs of one release and for no others: "
        + "; ".join(f"{release}: {_shorten(own)}" for release, own in names.by_release.items()),
        found=_shorten(sorted(present)),
        remedy="submit the fields of all pairs that are scored, under the ids of one release, and "
        "take fields of other pairs out",
    )


def _shorten(names: Sequence[str]) -> str:
    more = f", ... ({len(names)})" if len(names) > _N_SHOWN else ""
    return ", ".join(names[:_N_SHOWN]) + more
