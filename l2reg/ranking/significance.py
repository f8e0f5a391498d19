"""How many teams are significantly better than a team, and the rank score for it.

All functions look at many rows at once: a row says how often each pair counts. Ones are the data
as they are; other rows are resamples of the pairs, the same for all teams.
"""

import functools
import itertools

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import norm, rankdata

from l2reg.evaluation.aggregate import SHARE

Counts = Float[np.ndarray, "rows pairs"]  # whole numbers; every row adds up to the pairs
BetterCounts = Int[np.ndarray, "rows teams"]  # teams that are significantly better

LEVEL = 0.05  # of a two-sided test, not corrected for the number of tests
FEWEST_PAIRS = 6  # that must differ for a signed-rank test to be significant
LOWEST = 0.1  # rank score of the last team; that of the first is 1


def rank_scores(losses: Int[np.ndarray, "*rows teams"]) -> Float[np.ndarray, "*rows teams"]:
    """Return rank scores from 0.1 (most losses) to 1 (fewest), evenly spaced.

    Teams with equal losses share the mean of their scores (``rankscore_avgtie`` of the organisers'
    ranking, there for negated losses). A single team has 0.1.
    """
    steps = rankdata(-losses, axis=-1) - 1
    scores: Float[np.ndarray, "*rows teams"] = LOWEST + (1 - LOWEST) * steps / max(
        1, losses.shape[-1] - 1
    )
    return scores


def count_better_by_rank_sum(
    values: Float[np.ndarray, "teams pairs entries"], counts: Counts
) -> BetterCounts:
    """Return how many teams are better by the unpaired rank-sum test, the entries pooled.

    As ``scipy.stats.ranksums``: normal approximation, no correction for ties. The statistic is
    summed up over pairs of cases, so that resampling costs a product of matrices.

    Args:
        values: Large where they are good; nan are no entries, the same ones for all teams.
        counts: How often each pair counts.
    """
    n_teams = len(values)
    n = counts @ (~np.isnan(values[0])).sum(axis=-1)
    limit = norm.isf(LEVEL / 2) * n * np.sqrt((2 * n + 1) / 3)
    losses = np.zeros((len(counts), n_teams), dtype=int)
    for one, other in itertools.combinations(range(n_teams), 2):
        a, b = values[one][:, None, :, None], values[other][None, :, None, :]
        balance = (a > b).sum(axis=(2, 3)) - (a < b).sum(axis=(2, 3))
        statistic = ((counts @ balance) * counts).sum(axis=1)  # won less lost comparisons
        losses[:, other] += statistic > limit
        losses[:, one] += statistic < -limit
    return losses


def count_better_by_signed_rank(
    values: Float[np.ndarray, "teams pairs"], counts: Counts
) -> BetterCounts:
    """Return how many teams are better by the paired Wilcoxon signed-rank test.

    Against the exact distribution without ties, equal pairs left out; ties share their mean rank.
    Fewer than ``FEWEST_PAIRS`` that differ are never significant.

    Args:
        values: Large where they are good; nan are no entries, the same ones for all teams.
        counts: How often each pair counts.
    """
    n_teams, n_pairs = values.shape
    highest = np.array([_highest_significant(n) for n in range(n_pairs + 1)])
    losses = np.zeros((len(counts), n_teams), dtype=int)
    for one, other in itertools.combinations(range(n_teams), 2):
        difference = values[one] - values[other]
        differs = np.abs(difference) > 0
        difference, times = difference[differs], counts[:, differs]
        size = np.abs(difference)
        below = (size < size[:, None]) + (size == size[:, None]) / 2
        ranks = times * (times @ below.T + 0.5)  # of each pair, as often as it counts
        limit = highest[times.sum(axis=1).astype(int)]
        losses[:, other] += ranks[:, difference < 0].sum(axis=1) <= limit
        losses[:, one] += ranks[:, difference > 0].sum(axis=1) <= limit
    return losses


def count_better_on_worst_pairs(
    values: Float[np.ndarray, "teams pairs"], counts: Counts
) -> BetterCounts:
    """Return how many teams have a larger mean over their own worst 30 % of the pairs; no test.

    Args:
        values: Large where they are good.
        counts: How often each pair counts.
    """
    n_worst = max(1, round(SHARE * values.shape[1]))
    means = np.empty((len(counts), len(values)))
    for team, own in enumerate(values):
        order = np.argsort(own, kind="stable")
        before = np.cumsum(counts[:, order], axis=1) - counts[:, order]
        taken = np.clip(n_worst - before, 0, counts[:, order])
        means[:, team] = taken @ own[order] / n_worst
    losses: BetterCounts = (means[:, :, None] > means[:, None, :]).sum(axis=1)
    return losses


@functools.cache
def _highest_significant(n: int) -> int:
    """Return the largest signed-rank sum of ``n`` pairs that is significant; -1 if none is."""
    ways = [1]  # to get each sum
    for rank in range(1, n + 1):
        longer = ways + [0] * rank
        ways = [w + (longer[s - rank] if s >= rank else 0) for s, w in enumerate(longer)]
    return sum(2 * total < LEVEL * 2.0**n for total in itertools.accumulate(ways)) - 1
