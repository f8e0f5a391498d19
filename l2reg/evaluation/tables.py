"""Text tables of scores: means, summaries, differences, pairs and labels."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from l2reg.evaluation.aggregate import aggregate
from l2reg.evaluation.comparison import Difference, Summary, compare, summarise
from l2reg.evaluation.pair_scores import (
    PairScores,
    label_metric_names,
    lacking_pairs,
    metric_names,
    metric_values,
    scored_labels,
)
from l2reg.evaluation.score_submissions import SubmissionScores
from l2reg.io.text_columns import align_columns
from l2reg.submission.rules import Rules
from l2reg.wording import quantity

HEADINGS = {
    "dsc": "DSC",
    "hd95_voxels": "HD95 vox",
    "tre_mm": "TRE mm",
    "tre_keypoints_mm": "TRE kp mm",
    "sdlogj": "SDlogJ",
    "folds": "folds %",
    "hd95_mm": "HD95 mm",
    "assd_mm": "ASSD mm",
    "folded_volume": "folded vol %",
    "sd_log_det": "SD log det",
    "det_min": "det min",
    "det_max": "det max",
    "outside": "outside %",
}
HIGH_IS_GOOD = frozenset({"dsc"})
_PERCENT = frozenset({"folds", "folded_volume", "outside"})
_FINE = frozenset(
    {"dsc", "sdlogj", "sd_log_det"} | _PERCENT
)  # four decimals; the others have three

_NONE = "-"  # in the place of a value that no pair has

Rows = Mapping[str, Sequence[PairScores]]


def score_table(rows: Rows, rules: Rules) -> str:
    """Return a table of mean and SD over the pairs, one row per submission.

    The column of the Dice coefficient is followed by the leaderboard's DSC30, which a line below
    the table explains. Further lines name the pairs that lack a metric.
    """
    metrics = metric_names(score for scores in rows.values() for score in scores)
    headings = ["", *(HEADINGS[metric] for metric in metrics)]
    if "dsc" in metrics:
        headings.insert(2, "DSC30")
    lines = [headings]
    for name, scores in rows.items():
        aggregates = aggregate(scores, rules)
        cells = [_mean_cell(metric, aggregates.get(metric)) for metric in metrics]
        if "dsc" in metrics:
            cells.insert(1, f"{aggregates['dsc']['30']:.4f}" if "dsc" in aggregates else _NONE)
        lines.append([name, *cells])
    text = align_columns(lines)
    if "dsc" in metrics:
        text += "\nDSC30: 0.3 quantile of the pair means (the leaderboard's)"
    return "\n".join([text, *(_lacking_notes(rows, metrics))])


def missing_note(submissions: Mapping[str, SubmissionScores]) -> str:
    """Return a line that names the missing pairs of each submission; empty if none is missing."""
    incomplete = [
        f"{name} lacks {', '.join(s.missing)}" for name, s in submissions.items() if s.missing
    ]
    if not incomplete:
        return ""
    return (
        f"INCOMPLETE, the organisers would refuse it: {'; '.join(incomplete)}; "
        "means are over the other pairs"
    )


def submission_notes(submissions: Mapping[str, SubmissionScores]) -> list[str]:
    """Return the lines that belong below every table: missing pairs, and the submissions' notes."""
    names_by_note: dict[str, list[str]] = {}
    for name, scores in submissions.items():
        for note in scores.notes:
            names_by_note.setdefault(note, []).append(name)
    missing = missing_note(submissions)
    return [
        *([missing] if missing else []),
        *(f"note on {', '.join(names)}: {note}" for note, names in names_by_note.items()),
    ]


def summary_table(rows: Rows, metric: str) -> str:
    """Return a table of mean, SD, median and 95 % interval of a metric, one row per submission."""
    lines = [[HEADINGS[metric], "mean", "SD", "median", "95 % interval", "pairs"]]
    for name, scores in rows.items():
        values = metric_values(scores, metric)
        values = values[~np.isnan(values)]
        cells = _summary_cells(metric, summarise(values)) if values.size else [_NONE] * 4
        lines.append([name, *cells, str(len(values))])
    return align_columns(lines)


def differences(rows: Rows, metric: str) -> list[Difference]:
    """Compare every two submissions by one metric, on the pairs that all submissions have."""
    names = [{score.pair for score in scores} for scores in rows.values()]
    common = set.intersection(*names)
    return compare(
        metric,
        {
            name: metric_values([score for score in scores if score.pair in common], metric)
            for name, scores in rows.items()
        },
    )


def difference_table(comparisons: Sequence[Difference]) -> str:
    """Return a table of the differences of one metric; empty without differences."""
    if not comparisons:
        return ""
    heading = f"{HEADINGS[comparisons[0].metric]}: first - second"
    lines = [[heading, "mean difference", "p (Wilcoxon, Holm)", "effect", "pairs"]]
    for d in comparisons:
        cells = [number(d.metric, d.mean, "+"), f"{d.p:.4f}", f"{d.effect:+.2f}", str(d.n)]
        lines.append([f"{d.first} - {d.second}", *cells])
    return align_columns(lines)


def case_table(scores: Sequence[PairScores]) -> str:
    """Return a table of every metric of every pair of one submission."""
    metrics = metric_names(scores, official=False)
    lines = [["pair", *(HEADINGS[metric] for metric in metrics)]]
    for score in scores:
        values = score.all_values()
        lines.append([score.pair, *(number(m, values.get(m, math.nan)) for m in metrics)])
    return align_columns(lines)


def label_table(scores: Sequence[PairScores], names: Mapping[int, str]) -> str:
    """Return a table of every metric by label, averaged over the pairs; empty without labels.

    Args:
        scores: Scores of one submission.
        names: Names of the labels.
    """
    metrics = label_metric_names(scores)
    if not metrics:
        return ""
    lines = [["label", *(HEADINGS[metric] for metric in metrics), "pairs"]]
    by_label = [score.by_label() for score in scores]
    for label in scored_labels(scores):
        columns = {
            m: np.array([own.get(m, {}).get(label, math.nan) for own in by_label]) for m in metrics
        }
        known = ~np.isnan(columns["dsc"])
        means = [float(c[known].mean()) if known.any() else math.nan for c in columns.values()]
        cells = [number(m, mean) for m, mean in zip(metrics, means, strict=True)]
        lines.append([f"{label} {names.get(label, '')}".strip(), *cells, str(int(known.sum()))])
    return align_columns(lines)


def number(metric: str, value: float, sign: str = "") -> str:
    """Return a value as text, in the unit and precision of the tables; ``sign`` as in formats."""
    return f"{scale(metric) * value:{sign}.{4 if metric in _FINE else 3}f}"


def scale(metric: str) -> int:
    """Return the factor that converts a value to the unit of its heading."""
    return 100 if metric in _PERCENT else 1


def _lacking_notes(rows: Rows, metrics: Sequence[str]) -> list[str]:
    """Return a line for every metric that some pairs lack, and for every such set of pairs."""
    notes = []
    for metric in metrics:
        alike: dict[tuple[int, tuple[str, ...]], list[str]] = {}
        for name, scores in rows.items():
            key = len(scores), tuple(lacking_pairs(scores, metric))
            alike.setdefault(key, []).append(name)
        for (n, lacking), names in alike.items():
            if lacking:
                of = f" of {', '.join(names)}" if len(names) < len(rows) else ""
                notes.append(
                    f"{HEADINGS[metric]}{of}: a value in {n - len(lacking)} of "
                    f"{quantity(n, 'pair')}, over which the mean is taken; none for "
                    f"{', '.join(lacking)}"
                )
    return notes


def _mean_cell(metric: str, aggregates: Mapping[str, float] | None) -> str:
    if aggregates is None:
        return _NONE
    mean, std = number(metric, aggregates["mean"]), aggregates["std"]
    return mean if metric == "folds" or math.isnan(std) else f"{mean} ± {number(metric, std)}"


def _summary_cells(metric: str, summary: Summary) -> list[str]:
    ends = f"{number(metric, summary.low)} to {number(metric, summary.high)}"
    return [number(metric, v) for v in (summary.mean, summary.std, summary.median)] + [ends]
