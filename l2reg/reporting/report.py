"""HTML report: one self-contained page with the scores of submissions and their pairs."""

import html
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from l2reg.data.task import Task
from l2reg.evaluation.pair_scores import PairScores, metric_names, metric_values, scored_labels
from l2reg.evaluation.score_submissions import ZERO_FIELD, SubmissionScores
from l2reg.evaluation.tables import (
    HEADINGS,
    HIGH_IS_GOOD,
    Rows,
    difference_table,
    differences,
    number,
    score_table,
    submission_notes,
    summary_table,
)
from l2reg.reporting.charts import box_figure, label_figure
from l2reg.reporting.flags import flags
from l2reg.reporting.page import chart_html, provenance_html, text_html, write_page
from l2reg.reporting.registered_pair import RegisteredPair
from l2reg.reporting.viewer import viewer_html
from l2reg.submission.rules import Rules

MAX_PAIRS_DRAWN = 12
PAIRS_HTML = "<h2>Pairs</h2><p>At most twelve, the worst first where that is known.</p>"
Picture = tuple[str, RegisteredPair]  # name of a pair, and what is shown of it

_STATISTICS = (
    "Intervals: percentile bootstrap over the pairs. Differences: Wilcoxon's signed-rank test, "
    "corrected by Holm; effect: matched-pairs rank-biserial correlation, 1 if the first is larger "
    "in every pair. Below six pairs no p value can reach 0.05."
)
_UNSCORED = "<p>Nothing is scored: there are neither labels nor landmarks.</p>"
_BOTH = "<br>before → after"
_COLOURED_METRICS = frozenset({"dsc", "hd95_voxels", "tre_mm", "tre_keypoints_mm"})


def write_report(
    path: Path,
    title: str,
    results: Mapping[str, SubmissionScores],
    pictures: Iterable[Picture],
    task: Task,
    rules: Rules,
    made: Mapping[str, str],
) -> None:
    """Write a page with tables, charts and statistics of the scores, and pairs to look at.

    Args:
        path: Path of the HTML file.
        title: Headline of the page.
        results: Scores of the zero field and of every submission, by name; none without ground
            truth.
        pictures: Pairs of the last submission; they are consumed one by one, so that an iterator
            keeps only one pair in memory.
        task: Task with the names of the labels.
        rules: Rules that the scores follow.
        made: How the results were made, see ``provenance``.
    """
    rows = {name: scores.pairs for name, scores in results.items()}
    parts = [f"<h1>{html.escape(title)}</h1>"]
    parts += [f"<p class='worse'>{html.escape(note)}</p>" for note in submission_notes(results)]
    write_page(
        path,
        title,
        chain(
            parts,
            _score_parts(rows, task, rules) if rows else [_UNSCORED],
            _pair_parts(pictures),
            _statistics_parts(rows, task) if rows else [],
            [provenance_html(made)],
        ),
    )


def worst_first(scores: Sequence[PairScores], initial: Sequence[PairScores]) -> list[PairScores]:
    """Return scores in the order of their Dice or landmark error, the worst first.

    Args:
        scores: Scores of a submission.
        initial: Scores of the zero field.
    """
    metric = metric_names(initial)[0]
    values = metric_values(scores, metric)
    order = (values if metric in HIGH_IS_GOOD else -values).argsort(kind="stable")
    return [scores[index] for index in order]


def _score_parts(rows: Rows, task: Task, rules: Rules) -> Iterator[str]:
    """Yield the tables of the scores, and a chart."""
    yield text_html(score_table(rows, rules))
    words = "Box plot of each metric, a box for each submission; the table above has the means."
    yield chart_html(box_figure(rows), words)
    initial = rows[ZERO_FIELD]
    for name, scores in rows.items():
        if name != ZERO_FIELD:
            yield f"<h2>{html.escape(name)}, pair by pair</h2><p>The worst pairs come first.</p>"
            by_pair = {score.pair: score for score in initial}
            yield _pair_table_html(worst_first(scores, initial), by_pair, task)


def _pair_parts(pictures: Iterable[Picture]) -> Iterator[str]:
    """Yield the pairs to look at; the first one is unfolded."""
    yield PAIRS_HTML
    for index, (name, pair) in enumerate(pictures):
        yield viewer_html(pair, f"Pair {name}", opened=index == 0)


def _statistics_parts(rows: Rows, task: Task) -> Iterator[str]:
    """Yield the scores by label, and intervals and tests of the differences."""
    if scored_labels(rows[ZERO_FIELD]):
        yield "<h2>Labels</h2>"
        words = "Mean Dice coefficient, a row for each label and a column for each submission."
        yield chart_html(label_figure(rows, task.labels), words)
    if len(rows[ZERO_FIELD]) > 1:
        yield f"<h2>Statistics</h2><p>{_STATISTICS}</p>"
        for metric in metric_names(rows[ZERO_FIELD]):
            tables = [summary_table(rows, metric), difference_table(differences(rows, metric))]
            yield text_html("\n\n".join(tables))


def _pair_table_html(
    scores: Sequence[PairScores], initial: Mapping[str, PairScores], task: Task
) -> str:
    """Return a table of the scores of every pair, before and after registration, with flags."""
    metrics = metric_names([*scores, *initial.values()])
    head = "".join(
        f"<th>{HEADINGS[metric]}{_BOTH if metric in _COLOURED_METRICS else ''}</th>"
        for metric in metrics
    )
    lines = [f"<tr><th>pair</th>{head}<th class='flags'>flags</th></tr>"]
    for new in scores:
        old = initial[new.pair]
        cells = [
            _cell_html(metric, old.values().get(metric), new.values().get(metric, math.nan))
            for metric in metrics
        ]
        warnings = html.escape("; ".join(flags(new, old, task.labels)))
        cells.append(f"<td class='flags'>{warnings}</td>")
        lines.append(f"<tr><td>{html.escape(new.pair)}</td>{''.join(cells)}</tr>")
    return f"<div class='table'><table>{''.join(lines)}</table></div>"


def _cell_html(metric: str, old: float | None, new: float) -> str:
    """Return a table cell, coloured by whether the metric became better or worse; "-" for nan."""
    if math.isnan(new):
        return "<td>-</td>"
    if old is None or metric not in _COLOURED_METRICS:
        return f"<td>{number(metric, new)}</td>"
    improved = new > old if metric in HIGH_IS_GOOD else new < old
    kind = "better" if improved else "worse" if new != old else ""
    return f"<td class='{kind}'>{number(metric, old)} → {number(metric, new)}</td>"
