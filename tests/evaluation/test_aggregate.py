import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from l2reg.evaluation.aggregate import (
    aggregate,
    dsc30_and_tre30,
    hardest,
    hardest_per_row,
    label_means,
    quantile,
)
from l2reg.evaluation.pair_scores import PairScores
from l2reg.submission.rules import RULES

Make = Callable[..., PairScores]


def with_errors(make: Make, rows: Sequence[Sequence[float]]) -> list[PairScores]:
    return [make(str(n), tre_mm=list(row)) for n, row in enumerate(rows)]


def test_both_rules_sum_up_in_their_own_way(pair_scores: Make) -> None:
    errors = [1.0, 2.0, 6.0]
    three = with_errors(pair_scores, [[value] for value in errors])
    old, new = (aggregate(three, RULES[name])["tre_mm"] for name in ("2021", "current"))
    assert old["mean"] == new["mean"] == 3.0
    assert old["std"] == pytest.approx(np.std(errors, ddof=1))
    assert new["std"] == pytest.approx(np.std(errors))
    assert old["30"] == pytest.approx(np.quantile(errors, 0.3))
    assert new["30"] == pytest.approx(np.quantile(errors, 0.7))
    assert "30" not in aggregate(three, RULES["2021"])["folds"]


def test_labels_are_averaged_over_the_pairs_that_have_them(pair_scores: Make) -> None:
    rows: list[dict[int, float]] = [{1: 0.5, 2: math.nan, 3: math.nan}, {1: 0.7, 2: 0.2}]
    means = label_means([pair_scores(str(n), dsc=row) for n, row in enumerate(rows)])
    assert {label: means[label] for label in (1, 2)} == pytest.approx({1: 0.6, 2: 0.2})
    assert math.isnan(means[3])


def test_one_pair_has_no_spread_in_2021_and_none_at_all_now(pair_scores: Make) -> None:
    one = [pair_scores()]
    assert math.isnan(aggregate(one, RULES["2021"])["tre_mm"]["std"])
    assert aggregate(one, RULES["current"])["tre_mm"]["std"] == 0


def test_a_vanished_label_makes_means_infinite_but_not_the_better_tail(pair_scores: Make) -> None:
    distances = [1.0, 2.0, 3.0, math.inf]
    pairs = [pair_scores(str(n), dsc={1: 0.5}, hd95_voxels={1: d}) for n, d in enumerate(distances)]
    values = aggregate(pairs, RULES["2021"])["hd95_voxels"]
    assert values["mean"] == math.inf
    assert math.isnan(values["std"])
    assert values["30"] == pytest.approx(1.9)


def test_the_four_meanings_of_30(pair_scores: Make) -> None:
    """Ten landmarks and two pairs: 3 of each pair, 6 of all, 1 of the pairs."""
    before = np.stack([np.arange(10.0), np.arange(10.0) + 100])
    after = np.stack([np.linspace(0, 0.9, 10), np.linspace(5, 5.9, 10)])
    values = dsc30_and_tre30(
        with_errors(pair_scores, after), with_errors(pair_scores, before), RULES["2021"]
    )
    means = after.mean(axis=1)
    assert values == {
        "tre30_leaderboard": pytest.approx(np.quantile(means, 0.3)),
        "tre30_hardest_per_pair": pytest.approx(np.mean([after[0, 7:], after[1, 7:]])),
        "tre30_hardest_pooled": pytest.approx(after[1, 4:].mean()),
        "tre30_worst_pairs": pytest.approx(means[1]),
    }


def test_labels_that_are_absent_are_not_among_the_hardest(pair_scores: Make) -> None:
    before = [pair_scores(dsc={1: math.nan, 2: 0.1, 3: 0.5, 4: 0.9}, tre_mm=[])]
    after = [pair_scores(dsc={1: math.nan, 2: 0.6, 3: 0.7, 4: 0.8}, tre_mm=[])]
    values = dsc30_and_tre30(after, before, RULES["2021"])
    assert values["dsc30_hardest_pooled"] == values["dsc30_hardest_per_pair"] == 0.6
    assert values["dsc30_worst_pairs"] == pytest.approx(0.7)
    assert not any(name.startswith("tre") for name in values)


def test_pairs_may_have_different_numbers_of_landmarks(pair_scores: Make) -> None:
    before = with_errors(pair_scores, [[9.0, 1.0, 1.0], [5.0]])
    after = with_errors(pair_scores, [[4.0, 1.0, 1.0], [2.0]])
    values = dsc30_and_tre30(after, before, RULES["2021"])
    assert values["tre30_hardest_per_pair"] == 3.0
    assert values["tre30_hardest_pooled"] == 4.0


@pytest.mark.parametrize(("n_labels", "n_hardest"), [(35, 11), (4, 1), (9, 3), (15, 5), (100, 30)])
def test_dsc30_of_a_pair_is_over_11_of_35_labels_as_in_the_ranking_of_2021(
    pair_scores: Make, n_labels: int, n_hardest: int
) -> None:
    """Every label that was worse before has a score of its own: a mean tells how many there are."""
    before = {n: n / 200 for n in range(1, n_labels + 1)}
    after = {n: float(n == n_hardest) for n in before}
    found, one_less = (
        dsc30_and_tre30([pair_scores(dsc=own, tre_mm=[])], [pair_scores(dsc=before, tre_mm=[])],
                        RULES["2021"])["dsc30_hardest_per_pair"]
        for own in (after, {**after, n_hardest: 0.0, n_hardest + 1: 1.0})
    )  # fmt: skip
    assert found == pytest.approx(1 / n_hardest)
    assert one_less == 0


def test_eleven_labels_count_in_a_pair_that_lacks_two_of_35(pair_scores: Make) -> None:
    before = {n: math.nan if n > 33 else n / 200 for n in range(1, 36)}
    after = {n: math.nan if n > 33 else float(n == 11) for n in before}
    values = dsc30_and_tre30(
        [pair_scores(dsc=after, tre_mm=[])], [pair_scores(dsc=before, tre_mm=[])], RULES["2021"]
    )
    assert values["dsc30_hardest_per_pair"] == pytest.approx(1 / 11)


def test_pairs_without_a_metric_take_no_part_in_its_aggregates(pair_scores: Make) -> None:
    labelled = [pair_scores(str(n), dsc={1: d}, tre_mm=[]) for n, d in enumerate((0.2, 0.4, 0.9))]
    landmarks_only = [pair_scores("9", tre_mm=[1.0, 3.0])]
    for scores in ([*labelled, *landmarks_only], [*landmarks_only, *labelled]):
        found, alone = (aggregate(s, RULES["2021"]) for s in (scores, labelled))
        assert found["dsc"] == alone["dsc"]
        assert found["tre_mm"]["mean"] == 2.0
        thirty = dsc30_and_tre30(scores, scores, RULES["2021"])
        expected = dsc30_and_tre30(labelled, labelled, RULES["2021"])
        assert {name: thirty[name] for name in expected} == expected
        assert thirty["tre30_hardest_per_pair"] == 3.0


def test_thirty_percent_are_at_least_one_entry() -> None:
    assert hardest(np.array([3.0, 1.0])).tolist() == [False, True]
    rows = hardest_per_row(np.array([[3.0, 1.0], [1.0, np.nan]]))
    assert rows.tolist() == [[False, True], [True, False]]


@pytest.mark.parametrize("q", [0.0, 0.3, 0.5, 1.0])
def test_finite_quantiles_are_numpys(q: float, random: np.random.Generator) -> None:
    values = random.normal(size=7)
    assert quantile(values, q) == pytest.approx(np.quantile(values, q), abs=1e-15)
