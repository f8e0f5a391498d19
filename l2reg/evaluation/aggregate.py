"""Aggregation of scores over pairs, and the four definitions of DSC30 and TRE30.

The leaderboard takes a quantile of the pair means. The ranking of 2021 and the ranking since 2022
average the entries that were hardest before registration, per pair and over all pairs. The
challenge's page describes the mean over the worst pairs.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from l2reg.evaluation.pair_scores import (
    PairScores,
    metric_names,
    metric_values,
    scored_labels,
)
from l2reg.submission.rules import Rules

HARDEST_FRACTION = 0.3  # of the entries or of the pairs


def aggregate(scores: Sequence[PairScores], rules: Rules) -> dict[str, dict[str, float]]:
    """Return the official aggregates of each metric over the pairs.

    Args:
        scores: Scores of one submission.
        rules: Rules that define the standard deviation and the quantiles.

    Returns:
        By metric, over the pairs that have a value: ``mean``; ``std``, with the rules' ddof of 1
        (nan for one pair) or 0; ``30``, the quantile of the pair values that the rules name (the
        better tail for HD95). Metrics without such a quantile have no ``30``.
    """
    aggregates = {}
    for metric in metric_names(scores):
        values = _known(metric_values(scores, metric))
        enough = len(values) > rules.ddof and bool(np.isfinite(values).all())
        aggregates[metric] = {
            "mean": float(values.mean()) if values.size else math.nan,
            "std": float(values.std(ddof=rules.ddof)) if enough else math.nan,
        }
        if metric in rules.quantiles:
            q = rules.quantiles[metric]
            aggregates[metric]["30"] = quantile(values, q) if values.size else math.nan
    return aggregates


def label_means(scores: Sequence[PairScores]) -> dict[int, float]:
    """Return the mean Dice of each label over the pairs that have it; nan if no pair has it."""
    values = {
        label: np.array([score.dsc.get(label, math.nan) for score in scores])
        for label in scored_labels(scores)
    }
    known = {label: dice[~np.isnan(dice)] for label, dice in values.items()}
    return {label: float(v.mean()) if v.size else math.nan for label, v in known.items()}


def dsc30_and_tre30(
    scores: Sequence[PairScores], initial: Sequence[PairScores], rules: Rules
) -> dict[str, float]:
    """Return DSC30 and TRE30 in all their definitions, over the pairs that have a Dice or a TRE.

    Args:
        scores: Scores of one submission.
        initial: Scores of the zero field for the same pairs.
        rules: Rules that name the quantile of the leaderboard's definition.

    Returns:
        ``<metric>30_leaderboard``: the quantile of the pair means.
        ``<metric>30_hardest_per_pair``: the mean over the 30 % of each pair's labels or landmarks
        that were worst before registration (ranking of 2021).
        ``<metric>30_hardest_pooled``: the mean over the 30 % of the labels or landmarks of all
        pairs together that were worst before registration (ranking since 2022).
        ``<metric>30_worst_pairs``: the mean over the worst 30 % of the pairs (the challenge's
        page).
    """
    by_definition: dict[str, float] = {}
    for metric, sign in (("dsc", 1), ("tre_mm", -1)):  # sign * value: higher is better
        means = _known(metric_values(scores, metric))
        if not means.size:
            continue
        pairs = [pair for pair in zip(initial, scores, strict=True) if metric in pair[1].values()]
        rows = [_entries(score, metric) for _, score in pairs]
        before, after = _pad([_entries(score, metric) for score, _ in pairs]), _pad(rows)
        name = metric.removesuffix("_mm")
        worst = np.sort(sign * means)[: _n_hardest(len(means))]
        per_pair = hardest_per_row(sign * before, [len(row) for row in rows])
        by_definition |= {
            f"{name}30_leaderboard": quantile(means, rules.quantiles[metric]),
            f"{name}30_hardest_per_pair": float(after[per_pair].mean()),
            f"{name}30_hardest_pooled": float(after[hardest(sign * before)].mean()),
            f"{name}30_worst_pairs": float(sign * worst.mean()),
        }
    return by_definition


def hardest(initial: Float[np.ndarray, "*shape"]) -> Bool[np.ndarray, "*shape"]:
    """Return a mask of the lowest 30 % of all entries; nan are not entries."""
    mask = np.zeros(initial.size, dtype=bool)
    n_known = int((~np.isnan(initial)).sum())
    mask[np.argsort(initial, axis=None)[: _n_hardest(n_known)]] = True  # nan are sorted to the end
    return mask.reshape(initial.shape)


def hardest_per_row(
    initial: Float[np.ndarray, "rows columns"], n_entries: Sequence[int] | None = None
) -> Bool[np.ndarray, "rows columns"]:
    """Return a mask of the lowest 30 % of each row's entries.

    Halves are rounded up: the organisers take 11 of 35 labels, however many of these a pair lacks.

    Args:
        initial: Values before registration; nan are never among the lowest.
        n_entries: Number of entries of each row; ``None`` counts those that are not nan.
    """
    mask = np.zeros(initial.shape, dtype=bool)
    n_known = (~np.isnan(initial)).sum(axis=1).tolist()
    for row, chosen, n, known in zip(initial, mask, n_entries or n_known, n_known, strict=True):
        n_hardest = max(1, min(known, math.floor(HARDEST_FRACTION * n + 0.5)))
        chosen[np.argsort(row)[:n_hardest]] = True
    return mask


def quantile(values: Float[np.ndarray, " n"], q: float) -> float:
    """Return the linearly interpolated quantile; inf only if it depends on an infinite value."""
    low, high = np.quantile(values, q, method="lower"), np.quantile(values, q, method="higher")
    position = q * (len(values) - 1) % 1
    return float(low if position == 0 or low == high else low + position * (high - low))


def _entries(score: PairScores, metric: str) -> list[float]:
    """Return a metric's values by label or landmark."""
    return list(score.dsc.values()) if metric == "dsc" else list(score.tre_mm)


def _pad(rows: Sequence[Sequence[float]]) -> Float[np.ndarray, "pairs entries"]:
    """Return rows of values as one array, padded with nan."""
    entries = np.full((len(rows), max(map(len, rows))), math.nan)
    for row, values in zip(entries, rows, strict=True):
        row[: len(values)] = values
    return entries


def _known(values: Float[np.ndarray, " pairs"]) -> Float[np.ndarray, " known"]:
    known: Float[np.ndarray, " known"] = values[~np.isnan(values)]
    return known


def _n_hardest(n: int) -> int:
    """Return the number of entries in the hardest 30 % of ``n``, at least one."""
    return max(1, round(HARDEST_FRACTION * n))
