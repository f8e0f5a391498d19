import math
from collections.abc import Callable

import pytest

from l2reg.evaluation.pair_scores import PairScores
from l2reg.reporting.flags import flags

Make = Callable[..., PairScores]
NAMES = {1: "liver", 2: "spleen"}


def test_a_good_pair_has_no_flag(pair_scores: Make) -> None:
    before, after = pair_scores(tre_mm=[5.0]), pair_scores(tre_mm=[1.0], outside=0.01)
    assert flags(after, before, NAMES) == []
    assert flags(before, before, NAMES) == []


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ({"tre_mm": [1.0]}, {"tre_mm": [2.0]}, "worse than the zero field: landmark error"),
        (
            {"dsc": {1: 0.5}, "tre_mm": []},
            {"dsc": {1: 0.4}, "tre_mm": []},
            "worse than the zero field: Dice",
        ),
        (
            {},
            {"folds": 0.0125, "det_min": -1.5},
            "folds: 1.2500 % of the voxels, determinants down to -1.50",
        ),
        ({}, {"outside": 0.25}, "maps outside the moving volume: 25.0 % of the voxels"),
        ({}, {"hd95_voxels": {1: 2.0, 2: math.inf}}, "vanished when warped: spleen"),
    ],
)  # fmt: skip
def test_what_spoils_a_pair_is_said(
    pair_scores: Make, before: dict[str, object], after: dict[str, object], words: str
) -> None:
    assert flags(pair_scores(**after), pair_scores(**before), NAMES) == [words]


def test_a_metric_that_the_zero_field_lacks_is_not_compared(pair_scores: Make) -> None:
    assert flags(pair_scores(tre_mm=[9.0]), pair_scores(tre_mm=[]), NAMES) == []


def test_many_vanished_labels_are_counted(pair_scores: Make) -> None:
    gone = pair_scores(hd95_voxels=dict.fromkeys(range(1, 9), math.inf))
    (flag,) = flags(gone, pair_scores(), NAMES)
    assert flag == "vanished when warped: liver, spleen, 3, 4, 5 and 3 more"
