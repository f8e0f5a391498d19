"""Charts: box plots and a label map that compare the scores of several submissions."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from l2reg.evaluation.pair_scores import (
    PairScores,
    metric_names,
    metric_values,
    scored_labels,
)
from l2reg.evaluation.tables import HEADINGS, Rows, scale

_WIDTH = 4.0  # of one box plot, in inches


def box_figure(rows: Rows) -> Figure:
    """Return a box plot of every metric, with a box for each submission and a dot for each pair."""
    metrics = metric_names(score for scores in rows.values() for score in scores)
    figure = Figure(figsize=(_WIDTH * len(metrics), 1.2 + 0.5 * len(rows)), layout="constrained")
    cells = figure.subplots(1, len(metrics), squeeze=False)[0]
    positions = np.arange(len(rows), 0, -1)  # the first submission on top
    for cell, metric in zip(cells, metrics, strict=True):
        values = [scale(metric) * _finite(metric_values(r, metric)) for r in rows.values()]
        cell.boxplot(values, positions=positions, orientation="horizontal", widths=0.6,
                     showfliers=False, medianprops={"color": "#c03030"})  # fmt: skip
        for position, points in zip(positions, values, strict=True):
            cell.plot(points, np.full(len(points), position), ".", color="#4878a8", alpha=0.6)
        cell.set_yticks(positions, list(rows) if cell is cells[0] else [""] * len(rows))
        cell.set_xlabel(HEADINGS[metric])
        cell.grid(axis="x", color="#dddddd")
    return figure


def label_figure(rows: Mapping[str, Sequence[PairScores]], names: Mapping[int, str]) -> Figure:
    """Return a heat map of the mean Dice, with a row for each label, a column for each submission.

    Args:
        rows: Scores of the pairs by submission.
        names: Names of the labels.
    """
    labels = scored_labels(score for scores in rows.values() for score in scores)
    means = np.array(
        [[_mean([s.dsc.get(label, np.nan) for s in r]) for r in rows.values()] for label in labels]
    )
    figure = Figure(figsize=(3 + 1.2 * len(rows), 1.2 + 0.25 * len(labels)), layout="constrained")
    cell = figure.subplots()
    image = cell.imshow(means, cmap="viridis", vmin=0, vmax=1, aspect="auto")
    cell.set_yticks(range(len(labels)), [f"{n} {names.get(n, '')}" for n in labels], fontsize=8)
    cell.set_xticks(range(len(rows)), list(rows), rotation=30, ha="right")
    for row, column in np.ndindex(means.shape):
        value = means[row, column]
        dark = np.isnan(value) or value < 0.6
        cell.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7,
                  color="white" if dark else "black")  # fmt: skip
    figure.colorbar(image, label="mean Dice")
    return figure


def _finite(values: np.ndarray) -> np.ndarray:
    finite: np.ndarray = values[np.isfinite(values)]
    return finite


def _mean(values: Sequence[float]) -> float:
    """Return the mean of the values that are not NaN, NaN if there are none."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
