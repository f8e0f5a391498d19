"""Sum up over pairs, as the organisers do; and what "30" means where.

Four definitions go by the names DSC30 and TRE30. In the leaderboard's it is a quantile of the
pair means; the two rankings average the entries that were hardest before registration; the
challenge's page describes the mean over the worst pairs.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from l2reg.evaluation.pair_scores import PairScores
from l2reg.submission.rules import Rules

SHARE = 0.3


def aggregate(scores: Sequence[PairScores], rules: Rules) -> dict[str, dict[str, float]]:
    """Return the official aggregates of each metric over the pairs.

    ``mean``; ``std``, by the rules with ddof 1 (nan for one pair) or 0; ``30``: the quantile of the
    pair values that the rules name, of HD95 the better tail, left out where they name none.
    """
    aggregates = {}
    for metric in scores[0].values():
        values = np.array([score.values().get(metric, math.nan) for score in scores])
        enough = len(values) > rules.ddof and bool(np.isfinite(values).all())
        aggregates[metric] = {
            "mean": float(values.mean()),
            "std": float(values.std(ddof=rules.ddof)) if enough else math.nan,
        }
        if metric in rules.quantiles:
            aggregates[metric]["30"] = quantile(values, rules.quantiles[metric])
    return aggregates


def dsc30_and_tre30(
    scores: Sequence[PairScores], initial: Sequence[PairScores], rules: Rules
) -> dict[str, float]:
    """Return DSC30 and TRE30 in all their definitions, where there are labels or landmarks.

    Args:
        scores: Of one submission.
        initial: Of the zero field, the same pairs.
        rules: Name the quantile of the leaderboard's definition.

    Returns:
        ``<metric>30_leaderboard``: that quantile of the pair means.
        ``<metric>30_hardest_per_pair``: mean over 30 % of each pair's labels or landmarks, those
        that were worst initially (ranking of 2021).
        ``<metric>30_hardest_pooled``: the same, chosen among all pairs' at once (ranking since
        2022).
        ``<metric>30_worst_pairs``: mean over the worst 30 % of the pairs (the challenge's page).
    """
    found: dict[str, float] = {}
    for metric, sign in (("dsc", 1), ("tre_mm", -1)):  # sign * value is large where it is good
        means = np.array([score.values().get(metric, math.nan) for score in scores])
        if np.isnan(means).any():
            continue
        before, after = (_entries(s, metric) for s in (initial, scores))
        name = metric.removesuffix("_mm")
        worst = np.sort(sign * means)[: _share(len(means))]
        per_pair = hardest_per_row(sign * before)
        found |= {
            f"{name}30_leaderboard": quantile(means, rules.quantiles[metric]),
            f"{name}30_hardest_per_pair": float(after[per_pair].mean()),
            f"{name}30_hardest_pooled": float(after[hardest(sign * before)].mean()),
            f"{name}30_worst_pairs": float(sign * worst.mean()),
        }
    return found


def hardest(initial: Float[np.ndarray, "*shape"]) -> Bool[np.ndarray, "*shape"]:
    """Return which 30 % of all entries are lowest; nan are no entries."""
    chosen = np.zeros(initial.size, dtype=bool)
    n_known = int((~np.isnan(initial)).sum())
    chosen[np.argsort(initial, axis=None)[: _share(n_known)]] = True  # nan are sorted to the end
    return chosen.reshape(initial.shape)


def hardest_per_row(initial: Float[np.ndarray, "rows columns"]) -> Bool[np.ndarray, "rows columns"]:
    """Return which 30 % of each row's entries are lowest; nan are no entries."""
    return np.stack([hardest(row) for row in initial])


def quantile(values: Float[np.ndarray, " n"], q: float) -> float:
    """Return the linear quantile; inf only if it falls between infinite values."""
    low, high = np.quantile(values, q, method="lower"), np.quantile(values, q, method="higher")
    position = q * (len(values) - 1) % 1
    return float(low if position == 0 or low == high else low + position * (high - low))


def _entries(scores: Sequence[PairScores], metric: str) -> Float[np.ndarray, "pairs entries"]:
    """Return a metric's values by label or landmark, a row per pair, filled up with nan."""
    rows = [list(s.dsc.values()) if metric == "dsc" else list(s.tre_mm) for s in scores]
    entries = np.full((len(rows), max(map(len, rows))), math.nan)
    for row, values in zip(entries, rows, strict=True):
        row[: len(values)] = values
    return entries


def _share(n: int) -> int:
    return max(1, round(SHARE * n))
