"""Show scores as text."""

import math
from collections.abc import Mapping, Sequence

from l2reg.evaluation.evaluate import PairScores, aggregate

HEADINGS = {
    "dsc": "DSC",
    "hd95_voxels": "HD95 vox",
    "tre_mm": "TRE mm",
    "sdlogj": "SDlogJ",
    "folds": "folds %",
}


def score_table(rows: Mapping[str, Sequence[PairScores]]) -> str:
    """Return a table of mean and SD over the pairs, one row for each entry of ``rows``.

    The row of Dice means is followed by DSC30 (the 0.3 quantile of the pair values).
    """
    metrics = list(next(iter(rows.values()))[0].values())
    headings = ["", *(HEADINGS[metric] for metric in metrics)]
    if "dsc" in metrics:
        headings.insert(2, "DSC30")
    lines = [headings]
    for name, scores in rows.items():
        aggregates = aggregate(scores)
        cells = [_cell(metric, aggregates[metric]) for metric in metrics]
        if "dsc" in metrics:
            cells.insert(1, f"{aggregates['dsc']['30']:.4f}")
        lines.append([name, *cells])
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _cell(metric: str, aggregates: Mapping[str, float]) -> str:
    mean, std = aggregates["mean"], aggregates["std"]
    if metric == "folds":
        return f"{100 * mean:.4f}"
    digits = 4 if metric in ("dsc", "sdlogj") else 3
    spread = "" if math.isnan(std) else f" ± {std:.{digits}f}"
    return f"{mean:.{digits}f}{spread}"
