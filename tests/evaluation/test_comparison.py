import math

import numpy as np
import pytest
from scipy.stats import wilcoxon

from l2reg.evaluation.comparison import compare, holm, summarise


def test_a_summary_holds_mean_spread_median_and_an_interval_around_the_mean(
    random: np.random.Generator,
) -> None:
    values = random.normal(5, 2, 40)
    found = summarise(values)
    assert (found.mean, found.std, found.median) == pytest.approx(
        (values.mean(), values.std(ddof=1), np.median(values))
    )
    half = 1.96 * values.std(ddof=1) / np.sqrt(40)
    assert found.low == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.15 * half)
    assert summarise(values) == found


def test_one_pair_has_no_interval_and_equal_ones_a_point() -> None:
    one = summarise(np.array([2.0]))
    assert one.mean == one.median == 2.0
    assert all(math.isnan(value) for value in (one.std, one.low, one.high))
    equal = summarise(np.array([2.0, 2.0]))
    assert (equal.std, equal.low, equal.high) == (0, 2, 2)


def test_an_infinite_value_leaves_a_median() -> None:
    found = summarise(np.array([1.0, 2.0, math.inf]))
    assert (found.mean, found.median) == (math.inf, 2.0)
    assert math.isnan(found.low)


def test_every_two_submissions_are_compared_pair_by_pair(random: np.random.Generator) -> None:
    rows = {name: random.normal(size=12) for name in "abc"}
    rows["b"] = rows["a"] - 1 - random.random(12)
    found = compare("tre_mm", rows)
    assert [(d.first, d.second) for d in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    raw = [wilcoxon(rows[d.first], rows[d.second]).pvalue for d in found]
    assert [d.p for d in found] == pytest.approx(holm(raw))
    assert found[0].effect == 1.0
    assert found[0].mean == pytest.approx((rows["a"] - rows["b"]).mean())
    assert -1 < found[1].effect < 1


def test_equal_submissions_do_not_differ() -> None:
    (found,) = compare("dsc", {"a": np.ones(5), "b": np.ones(5)})
    assert (found.mean, found.p, found.effect, found.n) == (0, 1, 0, 5)


def test_pairs_without_a_finite_value_are_left_out() -> None:
    a, b = np.array([1.0, math.inf, 3.0, math.nan]), np.array([2.0, 5.0, 5.0, 1.0])
    (found,) = compare("hd95_voxels", {"a": a, "b": b})
    assert (found.n, found.mean, found.effect) == (2, -1.5, -1.0)
    (none,) = compare("hd95_voxels", {"a": a[1:2], "b": b[1:2]})
    assert none.n == 0
    assert math.isnan(none.p)


def test_holm_multiplies_the_smallest_by_their_number_and_never_falls() -> None:
    """The example of Holm 1979, section 3: p = 0.01, 0.04, 0.03, 0.005."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    corrected = holm([0.5, math.nan, 0.9])
    assert corrected[0] == corrected[2] == 1.0
    assert math.isnan(corrected[1])
