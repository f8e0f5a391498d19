import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import gmean, ranksums, wilcoxon

from l2reg.ranking.significance import (
    count_better_by_rank_sum,
    count_better_by_signed_rank,
    count_better_on_worst_pairs,
    min_rank_sum_p,
    min_signed_rank_p,
    rank_scores,
)


def once(n_pairs: int) -> np.ndarray:
    return np.ones((1, n_pairs))


def draws(n_pairs: int, random: np.random.Generator) -> np.ndarray:
    return random.multinomial(n_pairs, np.full(n_pairs, 1 / n_pairs), size=5).astype(float)


def naive_better_counts(values: np.ndarray) -> list[int]:
    """Number of better teams as the organisers count them, with SciPy's own test."""
    pooled = [team[~np.isnan(team)] for team in values.reshape(len(values), -1)]
    tests = [[ranksums(other, own) for other in pooled] for own in pooled]
    return [sum(bool(t.statistic > 0 and t.pvalue < 0.05) for t in row) for row in tests]


def test_fewest_better_teams_score_1_most_a_tenth_and_ties_share_the_mean() -> None:
    assert rank_scores(np.array([2, 0, 1])) == pytest.approx([0.1, 1.0, 0.55])
    assert rank_scores(np.array([3, 0, 1, 1, 3])) == pytest.approx(
        [0.2125, 1.0, 0.6625, 0.6625, 0.2125]
    )
    assert rank_scores(np.array([0, 0])) == pytest.approx([0.55, 0.55])
    assert rank_scores(np.array([0])) == pytest.approx([0.1])


@pytest.mark.golden
def test_rank_scores_are_the_organisers(golden: Path) -> None:
    expected = json.loads((golden / "ranking/expected.json").read_text())["rankscore_avgtie"]
    assert expected
    for case in expected:
        scores = rank_scores(np.array(case["losses"]))
        np.testing.assert_allclose(scores, case["rank_scores"], rtol=0, atol=1e-12)


FLOORS = [  # how many teams tie for the last place in each column, and what the table prints
    ([6, 6, 6, 7, 9], 0.261),
    ([6, 6, 6, 6, 8], 0.251),
    ([3, 3, 3, 3, 6], 0.170),
]


@pytest.mark.parametrize(("tied", "published"), FLOORS, ids=["task 1", "task 2", "task 3"])
def test_the_floor_of_the_published_table_of_2021_comes_out(
    tied: list[int], published: float
) -> None:
    n_teams = 17
    columns = [rank_scores(np.array([n_teams - n] * n + list(range(n_teams - n))))[0] for n in tied]
    assert gmean(columns) == pytest.approx(published, abs=5e-4)


def test_the_rank_sum_test_is_that_of_scipy(random: np.random.Generator) -> None:
    for spread in (0.0, 0.2, 0.5):
        shift = random.normal(scale=spread, size=(6, 1, 1))
        values = np.round(shift + random.normal(size=(6, 7, 9)), 1)  # with ties
        assert count_better_by_rank_sum(values, once(7))[0].tolist() == naive_better_counts(values)


def test_the_rank_sum_test_leaves_out_what_is_nan(random: np.random.Generator) -> None:
    values = random.normal(size=(5, 6, 8)) + 0.3 * np.arange(5)[:, None, None]
    values[:, random.random((6, 8)) < 0.4] = np.nan
    assert count_better_by_rank_sum(values, once(6))[0].tolist() == naive_better_counts(values)


def test_a_pair_that_counts_twice_is_there_twice(random: np.random.Generator) -> None:
    values = np.round(random.normal(size=(4, 9, 5)) + 0.4 * np.arange(4)[:, None, None], 1)
    counts = draws(9, random)
    repeated = [np.repeat(values, row.astype(int), axis=1) for row in counts]
    for function, own in (
        (count_better_by_rank_sum, lambda v: v),
        (count_better_by_signed_rank, lambda v: v[:, :, 0]),
        (count_better_on_worst_pairs, lambda v: v[:, :, 0]),
    ):
        together = function(own(values), counts)
        alone = [function(own(r), once(9))[0] for r in repeated]
        assert together.tolist() == np.array(alone).tolist()


def test_the_published_example_of_better_counts_comes_out() -> None:
    i = np.arange(60)
    values = np.stack(
        [
            0.80 + 0.001 * (i % 10),
            0.805 + 0.001 * (i % 10),
            0.70 + 0.002 * (i % 10),
            0.70 + 0.002 * ((i + 3) % 10),
        ]
    )
    better = count_better_by_rank_sum(values[:, :, None], once(60))[0]
    assert better.tolist() == [1, 0, 2, 2]
    assert rank_scores(better) == pytest.approx([0.7, 1.0, 0.25, 0.25])


@pytest.mark.parametrize("n_pairs", [3, 5, 6, 8, 20])
def test_the_signed_rank_test_is_the_exact_one_of_scipy(
    n_pairs: int, random: np.random.Generator
) -> None:
    found = []
    for shift in np.linspace(0, 2, 12):
        values = random.normal(size=(2, n_pairs)) + np.array([[0.0], [shift]])
        better = count_better_by_signed_rank(values, once(n_pairs))[0]
        significant = wilcoxon(values[1] - values[0], method="exact").pvalue < 0.05
        ahead = int(np.median(values[1] - values[0]) > 0)
        expected = [0, 0]
        expected[1 - ahead] = int(significant)
        assert better.tolist() == expected
        found.append(significant)
    assert any(found) == (n_pairs >= 6)


@pytest.mark.parametrize("lost", [[3], [1, 2], [4], [1, 3]])
def test_of_eight_pairs_a_rank_sum_of_three_is_the_last_that_is_significant(
    lost: list[int],
) -> None:
    """Wilcoxon's table: two-sided, 0.05."""
    size = np.arange(1.0, 9.0)
    difference = np.where(np.isin(size, lost), -size, size)
    better = count_better_by_signed_rank(np.stack([difference, 0 * size]), once(8))
    assert better.tolist() == [[0, int(sum(lost) <= 3)]]


def test_equal_teams_do_not_beat_each_other() -> None:
    values = np.zeros((3, 8))
    assert not count_better_by_signed_rank(values, once(8)).any()
    assert not count_better_on_worst_pairs(values, once(8)).any()
    assert not count_better_by_rank_sum(values[:, :, None], once(8)).any()


def test_nothing_drawn_is_no_evidence() -> None:
    values = np.full((2, 2, 3), np.nan)
    values[:, 0] = [[1.0] * 3, [2.0] * 3]
    assert not count_better_by_rank_sum(values, np.array([[0.0, 2.0]])).any()


def test_the_worst_pairs_are_a_teams_own() -> None:
    good_at_once = [0.9, 0.9, 0.1, 0.9, 0.9, 0.9, 0.9]
    bad_elsewhere = [0.3, 0.4, 1.0, 1.0, 1.0, 1.0, 1.0]  # better on the whole
    better = count_better_on_worst_pairs(np.array([good_at_once, bad_elsewhere]), once(7))
    assert better.tolist() == [[0, 1]]  # means over two pairs: 0.5 and 0.35


@pytest.mark.parametrize("n", [1, 2, 3, 5, 6, 30])
def test_no_p_value_is_smaller_than_that_of_complete_separation(n: int) -> None:
    low, high = np.arange(n), np.arange(n) + 1000.0
    assert min_rank_sum_p(n) == pytest.approx(ranksums(high, low).pvalue)
    assert min_signed_rank_p(n) == pytest.approx(
        wilcoxon(np.arange(1.0, n + 1), method="exact").pvalue
    )
