"""Types of the values of a config, checked before an object is built from them."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Optional, Protocol

import pytest
import torch

from l2reg.config.argument_types import (
    convert_value,
    describe_type,
    fits_type,
    parameters,
    type_problems,
)
from l2reg.data.intensity import Window
from l2reg.features.extractor import FeatureExtractor


class _Untold(Protocol):
    value: int


WINDOW = Window(low=0.0, high=1.0)


@pytest.mark.parametrize(
    ("annotation", "words", "fitting", "others"),
    [
        (int, "an integer", [0, -3], [True, 2.0, "2", None, [2]]),
        (float, "a number", [0, 1.5], [False, "1e-3", None, [1.0]]),
        (bool, "true or false", [True, False], [0, 1, "true", None]),
        (str, "text", ["", "abc", 2021], [True, 2.5, None, ["abc"]]),
        (int | None, "an integer or null", [None, 1], ["null", 1.5, False]),
        (Optional[float], "a number or null", [None, 1], ["abc", True]),  # noqa: UP045
        (Path | None, "a path or null", [Path("a"), "a", None], [3, ["a"]]),
        (str | Path | None, "a path or null", ["a", None, 2021], [2.5, {}]),
        (Literal["half", 2] | Sequence[int], "half or 2 or a list of integers",
         ["half", 2, [1, 2], (3,), []], ["full", 3, [1.5], ["a"]]),
        (Sequence[Sequence[int]], "a list of lists of integers",
         [[[1], []], []], [[1], "ab", ["ab"], [[None]]]),
        (Sequence[str], "a list of texts", [["ab"], [], ["ab", 1]], ["ab", [2.5]]),
        (tuple[int, int, float], "a list of 3 integers", [[1, 2, 0.5], (1, 2, 3)],
         [[1, 2], [1, 2, 3, 4], [1.5, 2, 3], "123", 3]),
        (tuple, "a list", [[1, "a"], (2,), "anything"], []),
        (Mapping[str, int], "keys whose values are integers",
         [{}, {"a": 1}, {0: 1}], [{"a": "b"}, [("a", 1)], 3]),
        (Mapping[str, Any], "keys whose values are any values", [{"a": None}], ["a", None]),
        (Window | None, "the keys of Window or null", [WINDOW, None], [3, {"low": 0.0}]),
        (float | torch.Tensor, "a number", [1, torch.ones(1)], ["abc"]),
        (Iterable[int], "the keys of Iterable", [3, "a"], []),  # of another kind: not known
        (_Untold, "the keys of _Untold", [3, None], []),
        ("Unknown", "the keys of Unknown", [3, None], []),
    ],
)  # fmt: skip
def test_a_value_fits_a_type_as_yaml_writes_it(
    annotation: Any, words: str, fitting: list[object], others: list[object]
) -> None:
    assert describe_type(annotation) == words
    assert [value for value in fitting if not fits_type(value, annotation)] == []
    assert [value for value in others if fits_type(value, annotation)] == []


def _target(width: int, weights: Mapping[str, float], folder: Path | None, limit: float = None):  # type: ignore[no-untyped-def, assignment]  # noqa: RUF013
    raise AssertionError


def test_every_argument_of_the_wrong_type_is_named() -> None:
    given = {"width": "abc", "weights": {"a": 1, "b": "c"}, "folder": 2021, "limit": None}
    problems = type_problems("of.Target", _target, {**given, "unknown": 3})
    assert [(p.where, p.expected, p.found) for p in problems] == [
        ("width=abc", "an integer", "'abc'"),
        ("weights.b=c", "a number", "'c'"),
        ("folder=2021", "a path or null", "2021"),
    ]
    assert all(p.what == "is of the wrong type for of.Target" for p in problems)
    assert problems[2].remedy.startswith("""'folder="2021"'""")


class _Written:
    def __init__(self, size: "int | None") -> None: ...


class _Unread:
    def __init__(self, size: "int | NoSuchName") -> None: ...  # type: ignore[name-defined]


def test_annotations_that_are_text_are_read_if_all_names_in_them_are_known() -> None:
    assert parameters(_Written)["size"].annotation == int | None
    assert len(type_problems("net", _Written, {"size": "abc"})) == 1
    assert type_problems("net", _Unread, {"size": "abc"}) == []


def test_an_object_of_a_users_class_fits_a_protocol_and_a_plain_value_does_not() -> None:
    class Mine:
        """As of a user's package: what it lacks shows where it is used."""

    assert fits_type(Mine(), FeatureExtractor)
    assert fits_type(Mine(), FeatureExtractor | None)
    for plain in ("mind", 3, None, [], {"radius": 2}):
        assert not fits_type(plain, FeatureExtractor)


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (str, 2021, "2021"),
        (str | None, 7, "7"),
        (int | str, 7, 7),
        (tuple[int, int], [1, 2], (1, 2)),
        (tuple[int, ...] | None, [1, 2, 3], (1, 2, 3)),
        (tuple[int, int], [1], [1]),  # which does not fit
        (Sequence[str], [1, "b"], ["1", "b"]),
        (Mapping[int, str], {1: 5, 2: "liver"}, {1: "5", 2: "liver"}),
        (Sequence[Sequence[int]], [[1, 2]], [[1, 2]]),
        (Any, [1], [1]),
    ],
)
def test_a_value_becomes_what_its_type_says(
    annotation: Any, value: object, expected: object
) -> None:
    converted = convert_value(value, annotation)
    assert (converted, type(converted)) == (expected, type(expected))


def test_a_tuple_of_any_length_takes_a_list_of_any_length() -> None:
    assert describe_type(tuple[int, ...]) == "a list of integers"
    assert fits_type([1, 2, 3], tuple[int, ...])
    assert not fits_type([1, "b"], tuple[int, ...])
