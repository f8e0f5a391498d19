"""How sure one can be of a mean, and of a difference between two submissions."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy.stats import bootstrap, rankdata, wilcoxon

Values = Float[np.ndarray, " pairs"]


@dataclass(frozen=True)
class Summary:
    """A metric over the pairs of one submission.

    Attributes:
        mean: Over the pairs.
        std: ddof 1; nan for one pair.
        median: Over the pairs.
        low: Lower end of the 95 % interval of the mean, by percentile bootstrap over the pairs; nan
            for fewer than two pairs, or values that are not finite.
        high: Its upper end.
    """

    mean: float
    std: float
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """Two submissions by one metric, pair by pair.

    Attributes:
        first: Name of one.
        second: Name of the other.
        metric: What is compared.
        n: Pairs compared; those of which either value is not finite are left out.
        mean: Mean of first - second.
        p: Two-sided Wilcoxon signed-rank test, corrected by Holm for all comparisons of the metric;
            nan where there is nothing to test.
        effect: Matched-pairs rank-biserial correlation (Kerby 2014): 1 if first is larger in every
            pair, -1 if smaller.
    """

    first: str
    second: str
    metric: str
    n: int
    mean: float
    p: float
    effect: float


def summarise(values: Values, *, resamples: int = 9999) -> Summary:
    """Return a metric's summary; the bootstrap's random stream is always the same."""
    enough = len(values) > 1 and bool(np.isfinite(values).all())
    low = high = math.nan
    if enough and np.ptp(values) > 0:
        interval = bootstrap(
            (values,), np.mean, n_resamples=resamples, method="percentile", rng=0
        ).confidence_interval
        low, high = float(interval.low), float(interval.high)
    elif enough:
        low = high = float(values[0])
    std = float(values.std(ddof=1)) if enough else math.nan
    return Summary(float(values.mean()), std, float(np.median(values)), low, high)


def compare(metric: str, rows: Mapping[str, Values]) -> list[Difference]:
    """Return the difference between every two submissions.

    Args:
        metric: Its name.
        rows: Values of every submission, of the same pairs in the same order.
    """
    found = [_difference(metric, *pair) for pair in itertools.combinations(rows.items(), 2)]
    corrected = holm([difference.p for difference in found])
    return [replace(d, p=p) for d, p in zip(found, corrected, strict=True)]


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p values corrected for their number (Holm 1979); nan stay nan and do not count."""
    order = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    corrected, floor = list(p_values), 0.0
    for rank, (p, index) in enumerate(order):
        floor = max(floor, min(1.0, p * (len(order) - rank)))
        corrected[index] = floor
    return corrected


def _difference(metric: str, first: tuple[str, Values], second: tuple[str, Values]) -> Difference:
    known = np.isfinite(first[1]) & np.isfinite(second[1])
    difference = first[1][known] - second[1][known]
    n, mean = int(known.sum()), float(difference.mean()) if known.any() else math.nan
    moved = difference[difference != 0]
    if moved.size == 0:
        p, effect = (1.0 if n else math.nan), 0.0
    else:
        ranks = rankdata(np.abs(moved))
        p = float(wilcoxon(moved).pvalue)
        effect = float((ranks * np.sign(moved)).sum() / ranks.sum())
    return Difference(first[0], second[0], metric, n, mean, p, effect)
