from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from l2reg.data.pairs import Pair, Scan
from l2reg.data.task import Task
from l2reg.problems import InputError
from l2reg.submission.bundle import open_submission
from l2reg.submission.numbering import PairNames, choose_release, official_names, pair_names
from l2reg.submission.rules import RULES

OLD_TEST, NEW_TEST = range(1, 17, 2), range(9, 17)
OLD_VAL, NEW_VAL = (12, 14, 16), (6, 7, 8)


def names(numbers: Iterable[int]) -> list[str]:
    return [f"{number:04}_{number:04}" for number in numbers]


def scan(number: int, official: int) -> Scan:
    return Scan(id=number, official_id=official, modality="MR", image=Path("x"), labels=None,
                mask=None)  # fmt: skip


def pairs(numbers: Iterable[int], official: Iterable[int]) -> list[Pair]:
    return [
        Pair(fixed=scan(number, old), moving=scan(number, old))
        for number, old in zip(numbers, official, strict=True)
    ]


TEST = PairNames({"2021": names(OLD_TEST), "current": names(NEW_TEST)}, "2021")
VAL = PairNames({"2021": names(OLD_VAL), "current": names(NEW_VAL)}, "2021")


@pytest.mark.parametrize("expected", ["2021", "current"])
@pytest.mark.parametrize(
    ("scored", "present", "release"),
    [
        (TEST, OLD_TEST, "2021"),
        (TEST, NEW_TEST, "current"),
        (TEST, [*OLD_TEST, *OLD_VAL], "2021"),  # has 0012, 0014 and 0016, of both
        (TEST, [*NEW_TEST, *NEW_VAL], "current"),
        (VAL, [*NEW_TEST, *NEW_VAL], "current"),  # has all of both, but the test pairs of one
        (TEST, OLD_TEST[1:], "2021"),
        (TEST, NEW_TEST[1:], "current"),
        (PairNames({"2021": names([1]), "current": names([9])}, "2021"), OLD_TEST, "2021"),
        (PairNames({"2021": names([1]), "current": names([9])}, "2021"), NEW_TEST, "current"),
    ],
)
def test_one_release_numbers_all_fields_of_a_submission(
    tiny_task: Callable[..., Task],
    expected: str,
    scored: PairNames,
    present: list[int],
    release: str,
) -> None:
    scored = replace(scored, expected=expected)
    assert choose_release(names(present), scored, tiny_task("abdomen"), "s.zip") == release


@pytest.mark.parametrize(
    ("scored", "present"),
    [(TEST, [9, 11, 13, 15]), (TEST, [9]), (TEST, range(1, 17)), (VAL, [*OLD_VAL, *NEW_VAL])],
)
def test_fields_that_fit_both_releases_are_refused_with_the_names_of_each(
    tiny_task: Callable[..., Task], scored: PairNames, present: Iterable[int]
) -> None:
    with pytest.raises(InputError, match="fit two releases") as error:
        choose_release(names(present), scored, tiny_task("abdomen"), "s.zip")
    for own in scored.by_release.values():
        assert own[0] in str(error.value)


def test_where_both_releases_number_alike_nothing_is_ambiguous(
    tiny_task: Callable[..., Task],
) -> None:
    task = tiny_task("lung")
    scored = pair_names(pairs([1, 2, 3], [1, 2, 3]), task, RULES["2021"])
    for present in ([1, 2, 3], [2], [1, 2, 3, 4], [9]):
        assert choose_release(names(present), scored, task, "s.zip") == "2021"


@pytest.mark.parametrize("layout", ["2021", "current"])
def test_a_field_is_found_under_the_ids_of_either_release_in_the_data_of_either(
    tmp_path: Path, tiny_task: Callable[..., Task], layout: str
) -> None:
    scored = pairs(OLD_TEST if layout == "2021" else NEW_TEST, OLD_TEST)
    for release, numbers in (("2021", OLD_TEST), ("current", NEW_TEST)):
        folder = tmp_path / release / "task_01"
        folder.mkdir(parents=True)
        for name in names(numbers):
            (folder / f"disp_{name}.npz").touch()
        opened = open_submission(folder.parent, tiny_task("abdomen"), scored, RULES["2021"])
        assert opened.release == release
        assert [opened.member(pair) for pair in scored] == [
            f"task_01/disp_{name}.npz" for name in names(numbers)
        ]


def test_the_pairs_to_submit_are_the_official_ones_not_those_on_disk(
    tiny_task: Callable[..., Task],
) -> None:
    val = official_names(tiny_task("lung"), "val", RULES["2021"])
    assert val.by_release[val.expected] == names([1, 2, 3])
    brains = official_names(tiny_task("oasis"), "test", RULES["2021"])
    assert len(brains.by_release["2021"]) == 38
    current = official_names(tiny_task("oasis"), "val", RULES["current"])
    assert current.by_release[current.expected][0] == "0395_0396"


@pytest.mark.parametrize("name", ["abdomen", "oasis", "lung"])
@pytest.mark.parametrize("split", ["val", "test"])
def test_the_official_pairs_of_both_releases_are_the_same_ones_in_the_same_order(
    tiny_task: Callable[..., Task], name: str, split: str
) -> None:
    task = tiny_task(name)
    layouts = task.layouts
    listed = layouts["current"].val if split == "val" else layouts["current"].test
    own = [
        Pair(
            fixed=scan(fixed, layouts["current"].official_id(fixed)),
            moving=scan(moving, layouts["current"].official_id(moving)),
        )
        for fixed, moving in listed
    ]
    for rules in RULES.values():
        by_release = official_names(task, split, rules).by_release
        assert pair_names(own, task, rules).by_release == by_release
