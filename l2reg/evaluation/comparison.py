"""Statistics over pairs: bootstrap intervals, and Wilcoxon tests between submissions.

The p values are corrected for multiple comparisons (Holm 1979).
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy  # its parts are loaded when they are used
from jaxtyping import Float

Values = Float[np.ndarray, " pairs"]


@dataclass(frozen=True)
class Summary:
    """Summary statistics of a metric over the pairs of one submission.

    Attributes:
        mean: Mean over the pairs.
        std: Standard deviation over the pairs, with ddof 1; nan for one pair.
        median: Median over the pairs.
        low: Lower end of the 95 % interval of the mean, by percentile bootstrap over the pairs; nan
            for fewer than two pairs, or values that are not finite.
        high: Upper end of this interval.
    """

    mean: float
    std: float
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """Paired comparison of two submissions by one metric.

    Attributes:
        first: Name of the first submission.
        second: Name of the second submission.
        metric: Name of the metric.
        n: Number of pairs compared; pairs with a value that is not finite are left out.
        mean: Mean of first - second.
        p: p value of the two-sided Wilcoxon signed-rank test, corrected by Holm for all comparisons
            of the metric; nan if no pair can be compared.
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
    """Return the summary of one metric; the bootstrap has a fixed seed.

    Args:
        values: Values of the metric, one per pair.
        resamples: Number of bootstrap resamples.
    """
    enough = len(values) > 1 and bool(np.isfinite(values).all())
    low = high = math.nan
    if enough and np.ptp(values) > 0:
        interval = scipy.stats.bootstrap(
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
        metric: Name of the metric.
        rows: Values by submission, for the same pairs in the same order.
    """
    differences = [_difference(metric, *pair) for pair in itertools.combinations(rows.items(), 2)]
    corrected_p = holm([difference.p for difference in differences])
    return [replace(d, p=p) for d, p in zip(differences, corrected_p, strict=True)]


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected for multiple comparisons (Holm 1979).

    Values of nan stay nan and do not count as comparisons.
    """
    order = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    corrected_p, floor = list(p_values), 0.0
    for rank, (p, index) in enumerate(order):
        floor = max(floor, min(1.0, p * (len(order) - rank)))
        corrected_p[index] = floor
    return corrected_p


def _difference(metric: str, first: tuple[str, Values], second: tuple[str, Values]) -> Difference:
    finite = np.isfinite(first[1]) & np.isfinite(second[1])
    difference = first[1][finite] - second[1][finite]
    n, mean = int(finite.sum()), float(difference.mean()) if finite.any() else math.nan
    nonzero = difference[difference != 0]
    if nonzero.size == 0:
        p, effect = (1.0 if n else math.nan), 0.0
    else:
        ranks = scipy.stats.rankdata(np.abs(nonzero))
        p = float(scipy.stats.wilcoxon(nonzero).pvalue)
        effect = float((ranks * np.sign(nonzero)).sum() / ranks.sum())
    return Difference(first[0], second[0], metric, n, mean, p, effect)
