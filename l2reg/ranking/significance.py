"""Significance tests between teams: the number of better teams, and the rank score it gives.

The functions process many rows at once. A row holds the multiplicity of each pair. A row of ones is
the original data; other rows are bootstrap resamples of the pairs, the same for all teams.
"""

import functools
import itertools

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import norm, rankdata

from l2reg.evaluation.aggregate import HARDEST_FRACTION

Counts = Float[np.ndarray, "rows pairs"]  # whole numbers; every row sums to the number of pairs
BetterCounts = Int[np.ndarray, "rows teams"]  # number of teams that are significantly better

LEVEL = 0.05  # significance level of a two-sided test, without correction for multiple tests
MIN_SCORE = 0.1  # rank score of the last team; the first team has 1


def rank_scores(better_counts: Int[np.ndarray, "*rows teams"]) -> Float[np.ndarray, "*rows teams"]:
    """Return evenly spaced rank scores from 0.1 (most better teams) to 1 (fewest).

    Teams with equal counts share the mean of their scores (``rankscore_avgtie`` of the organisers'
    ranking, which takes negated counts). A single team has 0.1.

    Args:
        better_counts: Number of teams that are significantly better than each team.
    """
    steps = rankdata(-better_counts, axis=-1) - 1
    scores: Float[np.ndarray, "*rows teams"] = MIN_SCORE + (1 - MIN_SCORE) * steps / max(
        1, better_counts.shape[-1] - 1
    )
    return scores


def count_better_by_rank_sum(
    values: Float[np.ndarray, "teams pairs entries"], counts: Counts
) -> BetterCounts:
    """Return the number of better teams by the unpaired rank-sum test over pooled entries.

    The test is that of ``scipy.stats.ranksums``: normal approximation, no correction for ties. The
    statistic is a sum over pairs of cases, so that resampling costs one matrix product.

    Args:
        values: Values of all teams, higher is better; nan, the same ones for all teams, are not
            entries.
        counts: Multiplicity of each pair in each row.
    """
    n_teams = len(values)
    n = counts @ (~np.isnan(values[0])).sum(axis=-1)
    limit = norm.isf(LEVEL / 2) * n * np.sqrt((2 * n + 1) / 3)
    better_counts = np.zeros((len(counts), n_teams), dtype=int)
    for one, other in itertools.combinations(range(n_teams), 2):
        a, b = values[one][:, None, :, None], values[other][None, :, None, :]
        balance = (a > b).sum(axis=(2, 3)) - (a < b).sum(axis=(2, 3))
        # Statistic: number of comparisons won minus number of comparisons lost
        statistic = ((counts @ balance) * counts).sum(axis=1)
        better_counts[:, other] += statistic > limit
        better_counts[:, one] += statistic < -limit
    return better_counts


def count_better_by_signed_rank(
    values: Float[np.ndarray, "teams pairs"], counts: Counts
) -> BetterCounts:
    """Return the number of better teams by the paired Wilcoxon signed-rank test.

    The test uses the exact distribution without ties. Pairs with equal values are excluded; ties
    share their mean rank. Fewer than six differing pairs are never significant.

    Args:
        values: Values of all teams, higher is better; nan, the same ones for all teams, are not
            entries.
        counts: Multiplicity of each pair in each row.
    """
    n_teams, n_pairs = values.shape
    max_sums = np.array([_max_significant_sum(n) for n in range(n_pairs + 1)])
    better_counts = np.zeros((len(counts), n_teams), dtype=int)
    for one, other in itertools.combinations(range(n_teams), 2):
        difference = values[one] - values[other]
        differs = np.abs(difference) > 0
        difference, times = difference[differs], counts[:, differs]
        size = np.abs(difference)
        below = (size < size[:, None]) + (size == size[:, None]) / 2
        ranks = times * (times @ below.T + 0.5)  # sum of ranks of each pair over its multiplicity
        limit = max_sums[times.sum(axis=1).astype(int)]
        better_counts[:, other] += ranks[:, difference < 0].sum(axis=1) <= limit
        better_counts[:, one] += ranks[:, difference > 0].sum(axis=1) <= limit
    return better_counts


def count_better_on_worst_pairs(
    values: Float[np.ndarray, "teams pairs"], counts: Counts
) -> BetterCounts:
    """Return the number of teams with a larger mean over the worst 30 % of their own pairs.

    No significance test is made.

    Args:
        values: Values of all teams, higher is better.
        counts: Multiplicity of each pair in each row.
    """
    n_worst = max(1, round(HARDEST_FRACTION * values.shape[1]))
    means = np.empty((len(counts), len(values)))
    for team, own in enumerate(values):
        order = np.argsort(own, kind="stable")
        before = np.cumsum(counts[:, order], axis=1) - counts[:, order]
        taken = np.clip(n_worst - before, 0, counts[:, order])
        means[:, team] = taken @ own[order] / n_worst
    better_counts: BetterCounts = (means[:, :, None] > means[:, None, :]).sum(axis=1)
    return better_counts


def min_rank_sum_p(n: int) -> float:
    """Return the smallest p value of the rank-sum test: every value of one team is the better one.

    Args:
        n: Number of values of each team.
    """
    return float(2 * norm.sf(n * np.sqrt(3 / (2 * n + 1))))


def min_signed_rank_p(n: int) -> float:
    """Return the smallest p value of the signed-rank test: one team wins all ``n`` pairs."""
    return 2.0 * 2.0**-n


@functools.cache
def _max_significant_sum(n: int) -> int:
    """Return the largest signed-rank sum of ``n`` pairs that is significant; -1 if none is."""
    n_ways = [1]  # number of sets of ranks with each sum
    for rank in range(1, n + 1):
        longer = n_ways + [0] * rank
        n_ways = [w + (longer[s - rank] if s >= rank else 0) for s, w in enumerate(longer)]
    return sum(2 * total < LEVEL * 2.0**n for total in itertools.accumulate(n_ways)) - 1
