"""Numbers in messages agree with their nouns."""

import re
from pathlib import Path

import pytest

from l2reg.wording import quantity

PACKAGE = Path(__file__).parents[1] / "l2reg"
ANY_NUMBER_PLURAL = re.compile(r"\{len\([^{}]*\)\} (?!series)(?:[a-z-]+ ){0,2}?[a-z]{3,}s\b")


@pytest.mark.parametrize(
    ("number", "noun", "words"),
    [(0, "pair", "0 pairs"), (1, "pair", "1 pair"), (12, "single scan", "12 single scans")],
)
def test_only_one_is_singular(number: int, noun: str, words: str) -> None:
    assert quantity(number, noun) == words


def test_no_message_counts_by_a_plural_alone() -> None:
    for path in PACKAGE.rglob("*.py"):
        assert ANY_NUMBER_PLURAL.search(path.read_text(encoding="utf-8")) is None, path
