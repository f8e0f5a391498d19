import math
from collections.abc import Callable

import numpy as np
import pytest

from l2reg.evaluation.pair_scores import PairScores, metric_values
from l2reg.evaluation.score_submissions import SubmissionScores
from l2reg.evaluation.tables import (
    HEADINGS,
    align_columns,
    case_table,
    difference_table,
    differences,
    label_table,
    missing_note,
    number,
    score_table,
    submission_notes,
    summary_table,
)
from l2reg.submission.rules import RULES

Make = Callable[..., PairScores]
OLD = RULES["2021"]


def test_one_pair_has_no_spread_and_columns_line_up(pair_scores: Make) -> None:
    head, row = score_table({"a long name": [pair_scores()]}, OLD).splitlines()
    assert "±" not in row
    assert row.split() == ["a", "long", "name", "2.000", "0.1000", "0.0000"]
    assert head.index("TRE mm") + len("TRE mm") == row.index("2.000") + len("2.000")


def test_the_table_shows_means_spreads_folds_in_percent_and_which_dsc30(pair_scores: Make) -> None:
    rows = {
        "zero field": [pair_scores(dsc={1: value}, tre_mm=[]) for value in (0.5, 0.7)],
        "ours": [pair_scores(dsc={1: 0.8}, tre_mm=[], folds=0.0125)] * 2,
    }
    head, zero, ours, note = score_table(rows, OLD).splitlines()
    assert head.split() == ["DSC", "DSC30", "SDlogJ", "folds", "%"]
    assert "0.6000 ± 0.1414  0.5600" in zero
    assert ours.split()[0] == "ours"
    assert ours.endswith("1.2500")
    assert note == "DSC30: 0.3 quantile of the pair means (the leaderboard's)"
    assert "0.6000 ± 0.1000" in score_table(rows, RULES["current"])


def mixed(make: Make) -> list[PairScores]:
    """Return three pairs: one with landmarks alone, one with labels alone, one with both."""
    both = {"dsc": {1: 0.5}, "hd95_voxels": {1: 2.0}}
    return [make("0001_0001"), make("0002_0002", tre_mm=[], **both), make("0003_0003", **both)]


@pytest.mark.parametrize("order", [1, -1])
def test_the_table_names_the_pairs_that_lack_a_metric_whichever_comes_first(
    pair_scores: Make, order: int
) -> None:
    scores = mixed(pair_scores)[::order]
    rows = {"zero field": scores, "a": scores, "none": [pair_scores("0001_0001")]}
    head, zero, _, none, *notes = score_table(rows, OLD).splitlines()
    assert head.split()[:6] == ["DSC", "DSC30", "HD95", "vox", "TRE", "mm"]
    assert zero.split()[2:5] == ["0.5000", "±", "0.0000"]
    assert none.split() == ["none", "-", "-", "-", "2.000", "0.1000", "0.0000"]
    text = "\n".join(notes)
    assert "DSC of zero field, a: a value in 2 of 3 pairs" in text
    assert "none for 0001_0001" in text
    assert "TRE mm of zero field, a: a value in 2 of 3 pairs" in text
    assert "none for 0002_0002" in text
    assert "DSC of none: a value in 0 of 1 pair," in text


def test_all_tables_stand_where_pairs_lack_a_metric(pair_scores: Make) -> None:
    scores = mixed(pair_scores)
    first, *others = case_table(scores).splitlines()
    columns = first.split()[1:]
    assert columns[:5] == ["DSC", "HD95", "vox", "TRE", "mm"]
    assert [line.split()[1] for line in others] == ["nan", "0.5000", "0.5000"]
    assert label_table(scores, {1: "liver"}).splitlines()[1].split()[:2] == ["1", "liver"]
    assert label_table(scores, {1: "liver"}).splitlines()[1].split()[-1] == "2"
    assert summary_table({"a": scores, "b": [pair_scores(tre_mm=[])]}, "tre_mm").splitlines()[
        1:
    ] == [
        "a       2.000  0.000   2.000  2.000 to 2.000      2",
        "b           -      -       -               -      0",
    ]


def test_every_metric_has_a_heading(pair_scores: Make) -> None:
    full = pair_scores(
        dsc={1: 0.5}, hd95_voxels={1: 1.0}, hd95_mm={1: 1.0}, assd_mm={1: 1.0},
        tre_keypoints_mm=[1.0],
    )  # fmt: skip
    assert set(full.all_values()) == set(HEADINGS)


def test_what_is_missing_is_said(pair_scores: Make) -> None:
    complete = SubmissionScores([pair_scores()])
    lacking = SubmissionScores([pair_scores()], missing=["0002_0002", "0003_0003"])
    assert missing_note({"a": complete}) == ""
    noted = SubmissionScores([pair_scores()], notes=["trained on"])
    assert submission_notes({"a": noted, "b": noted, "c": lacking}) == [
        missing_note({"c": lacking}), "note on a, b: trained on"
    ]  # fmt: skip
    note = missing_note({"a": complete, "b": lacking})
    assert "b lacks 0002_0002, 0003_0003" in note
    assert "refuse" in note


def test_the_summary_has_a_row_for_each_submission(pair_scores: Make) -> None:
    rows = {name: [pair_scores(tre_mm=[v + n]) for v in (1.0, 2.0, 6.0)] for n, name in
            enumerate(("a", "b"))}  # fmt: skip
    head, a, b = summary_table(rows, "tre_mm").splitlines()
    assert head.split() == ["TRE", "mm", "mean", "SD", "median", "95", "%", "interval", "pairs"]
    assert a.split()[:4] == ["a", "3.000", "2.646", "2.000"]
    assert b.split()[3] == "3.000"
    assert a.split()[-1] == "3"


def test_only_pairs_that_all_have_are_compared(pair_scores: Make) -> None:
    rows = {
        "a": [pair_scores(str(n), tre_mm=[float(n)]) for n in range(8)],
        "b": [pair_scores(str(n), tre_mm=[n + 1.0]) for n in range(1, 8)],
    }
    (found,) = differences(rows, "tre_mm")
    assert (found.n, found.mean, found.effect) == (7, -1.0, -1.0)
    head, row = difference_table([found]).splitlines()
    assert head.startswith("TRE mm: first - second")
    assert row.split() == ["a", "-", "b", "-1.000", f"{2 * 0.5**7:.4f}", "-1.00", "7"]
    assert difference_table([]) == ""


def test_cases_and_labels_have_tables_of_their_own(pair_scores: Make) -> None:
    scores = [
        pair_scores("0001_0002", dsc={1: 0.25, 2: math.nan}, tre_mm=[]),
        pair_scores("0003_0004", dsc={1: 0.75, 2: math.nan}, tre_mm=[], outside=0.5),
    ]
    cases = case_table(scores).splitlines()
    assert cases[1].split()[:2] == ["0001_0002", "0.2500"]
    assert cases[2].endswith("50.0000")
    labels = label_table(scores, {1: "liver", 2: "spleen"}).splitlines()
    assert labels[1].split() == ["1", "liver", "0.5000", "2"]
    assert labels[2].split() == ["2", "spleen", "nan", "0"]
    assert label_table([pair_scores()], {}) == ""


def test_values_are_shown_in_their_unit(pair_scores: Make) -> None:
    assert number("folds", 0.0125) == "1.2500"
    assert number("dsc", 0.5) == "0.5000"
    assert number("tre_mm", 1.0, "+") == "+1.000"
    np.testing.assert_equal(metric_values([pair_scores()], "dsc"), [math.nan])


def test_text_stands_left_and_numbers_right() -> None:
    assert align_columns([["", "bb"], ["aaa", "1"]]) == "     bb\naaa   1"
    with pytest.raises(ValueError, match="shorter"):
        align_columns([["a", "b"], ["a", "b", "c"]])
