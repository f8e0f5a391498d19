"""HTML report: one self-contained page with the scores and figures of submissions."""

import base64
import html
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from l2reg.data.task import Task
from l2reg.evaluation.pair_scores import PairScores, metric_names, scored_labels
from l2reg.evaluation.score_submissions import ZERO_FIELD, SubmissionScores
from l2reg.evaluation.tables import (
    HEADINGS,
    HIGH_IS_GOOD,
    difference_table,
    differences,
    number,
    score_table,
    submission_notes,
    summary_table,
)
from l2reg.io.files import atomic_write
from l2reg.reporting.charts import box_figure, label_figure
from l2reg.reporting.flags import flags
from l2reg.submission.rules import Rules

Picture = tuple[str, Sequence[Figure]]  # name of a pair, and its figures

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 1500px; padding: 0 1em; }
table { border-collapse: collapse; margin: 1em 0; }
th, td { padding: .25em .9em; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child, td.flags { text-align: left; }
.better { color: #17692c; } .worse { color: #b3261e; font-weight: 600; }
.flags { color: #b3261e; }
img { max-width: 100%; display: block; margin: .5em 0 1.5em; }
pre { background: #f5f5f5; padding: .8em; overflow-x: auto; }
"""
_LEGEND = (
    "The worst pairs come first. Each row is the middle slice across one array axis. Overlays show "
    "the fixed scan in magenta and the other in green: grey is agreement. Outlines of labels or "
    "masks: fixed yellow, warped cyan. Volume change: blue shrinks, red grows (full colour at a "
    "factor of 2.8), black folds."
)
_STATISTICS = (
    "Intervals: percentile bootstrap over the pairs. Differences: Wilcoxon's signed-rank test, "
    "corrected by Holm; effect: matched-pairs rank-biserial correlation, 1 if the first is larger "
    "in every pair. Below six pairs no p value can reach 0.05."
)
_COLOURED_METRICS = frozenset({"dsc", "hd95_voxels", "tre_mm", "tre_keypoints_mm"})


def write_report(
    path: Path,
    title: str,
    results: Mapping[str, SubmissionScores],
    pictures: Iterable[Picture],
    task: Task,
    rules: Rules,
) -> None:
    """Write a page with tables, charts and statistics of the scores, and figures of the pairs.

    Args:
        path: Path of the HTML file.
        title: Headline of the page.
        results: Scores of the zero field and of every submission, by name.
        pictures: Figures of the pairs of the last submission; they are consumed one by one, so that
            an iterator keeps only one pair in memory.
        task: Task with the names of the labels.
        rules: Rules that the scores follow.
    """
    rows = {name: scores.pairs for name, scores in results.items()}
    initial = {score.pair: score for score in rows[ZERO_FIELD]}
    parts = [f"<h1>{html.escape(title)}</h1>"]
    parts += [f"<p class='worse'>{html.escape(note)}</p>" for note in submission_notes(results)]
    parts += [_text_html(score_table(rows, rules)), _image_html(box_figure(rows))]
    for name, scores in rows.items():
        if name != ZERO_FIELD:
            parts.append(f"<h2>{html.escape(name)}, pair by pair</h2>")
            parts.append(_pair_table_html(scores, initial, task))
    parts.append(f"<h2>Pictures of {html.escape(list(rows)[-1])}</h2><p>{_LEGEND}</p>")
    for pair, figures in pictures:
        parts += [f"<h3>Pair {html.escape(pair)}</h3>", *map(_image_html, figures)]
    if scored_labels(rows[ZERO_FIELD]):
        parts += ["<h2>Labels</h2>", _image_html(label_figure(rows, task.labels))]
    if len(initial) > 1:
        parts.append(f"<h2>Statistics</h2><p>{_STATISTICS}</p>")
        for metric in metric_names(rows[ZERO_FIELD]):
            tables = [summary_table(rows, metric), difference_table(differences(rows, metric))]
            parts.append(_text_html("\n\n".join(tables)))
    page = (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{html.escape(title)}</title>"
        f"<style>{_STYLE}</style><body>{''.join(parts)}</body></html>"
    )
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _pair_table_html(
    scores: Sequence[PairScores], initial: Mapping[str, PairScores], task: Task
) -> str:
    """Return a table of the scores of every pair, before and after registration, with flags."""
    metrics = metric_names([*scores, *initial.values()])
    head = "".join(f"<th>{HEADINGS[metric]}<br>before → after</th>" for metric in metrics)
    lines = [f"<tr><th>pair</th>{head}<th>flags</th></tr>"]
    for new in scores:
        old = initial[new.pair]
        cells = [
            _cell_html(metric, old.values().get(metric), new.values().get(metric, math.nan))
            for metric in metrics
        ]
        warnings = html.escape("; ".join(flags(new, old, task.labels)))
        cells.append(f"<td class='flags'>{warnings}</td>")
        lines.append(f"<tr><td>{html.escape(new.pair)}</td>{''.join(cells)}</tr>")
    return f"<table>{''.join(lines)}</table>"


def _cell_html(metric: str, old: float | None, new: float) -> str:
    """Return a table cell, coloured by whether the metric became better or worse; "-" for nan."""
    if math.isnan(new):
        return "<td>-</td>"
    if old is None or metric not in _COLOURED_METRICS:
        return f"<td>{number(metric, new)}</td>"
    improved = new > old if metric in HIGH_IS_GOOD else new < old
    kind = "better" if improved else "worse" if new != old else ""
    return f"<td class='{kind}'>{number(metric, old)} → {number(metric, new)}</td>"


def _text_html(text: str) -> str:
    return f"<pre>{html.escape(text)}</pre>"


def _image_html(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=70)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f"<img alt='' src='data:image/png;base64,{data}'>"
