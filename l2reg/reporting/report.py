"""One HTML page with the scores and pictures of a submission; no other file is needed."""

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from l2reg.evaluation.evaluate import PairScores
from l2reg.evaluation.table import HEADINGS, score_table
from l2reg.files import written_whole

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 1500px; padding: 0 1em; }
table { border-collapse: collapse; margin: 1em 0; }
th, td { padding: .25em .9em; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
.better { color: #17692c; } .worse { color: #b3261e; font-weight: 600; }
img { max-width: 100%; display: block; margin: .5em 0 1.5em; }
pre { background: #f5f5f5; padding: .8em; overflow-x: auto; }
"""
_LEGEND = (
    "Each row is the middle slice across one array axis. Overlays show the fixed scan in magenta "
    "and the other in green: grey is agreement. Outlines of labels or masks: fixed yellow, warped "
    "cyan. Volume change: blue shrinks, red grows (full colour at a factor of 2.8), black folds."
)
_HIGH_IS_GOOD = frozenset({"dsc"})
_COMPARED = frozenset({"dsc", "hd95_voxels", "tre_mm"})


def write_report(
    path: Path,
    title: str,
    rows: Mapping[str, Sequence[PairScores]],
    pictures: Iterable[tuple[str, Sequence[Figure]]],
) -> None:
    """Write the page.

    Args:
        path: The HTML file.
        title: Headline.
        rows: Scores of each submission, the zero field first: the others are compared with it.
        pictures: A caption and figures per pair; drawn one by one, so that one is in memory.
    """
    (_, before), *others = rows.items()
    parts = [f"<h1>{html.escape(title)}</h1>", f"<pre>{html.escape(score_table(rows))}</pre>"]
    for name, after in others:
        parts += [f"<h2>{html.escape(name)}, pair by pair</h2>", _pair_table(before, after)]
    parts.append(f"<h2>Pictures</h2><p>{_LEGEND}</p>")
    for caption, figures in pictures:
        parts += [f"<h3>{html.escape(caption)}</h3>", *map(_embedded, figures)]
    page = (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{html.escape(title)}</title>"
        f"<style>{_STYLE}</style><body>{''.join(parts)}</body></html>"
    )
    with written_whole(path) as draft:
        draft.write_text(page, encoding="utf-8")


def _pair_table(before: Sequence[PairScores], after: Sequence[PairScores]) -> str:
    metrics = list(after[0].values())
    head = "".join(f"<th>{HEADINGS[metric]}<br>before → after</th>" for metric in metrics)
    lines = [f"<tr><th>pair</th>{head}</tr>"]
    for old, new in zip(before, after, strict=True):
        cells = [
            _cell(metric, old.values().get(metric), value) for metric, value in new.values().items()
        ]
        lines.append(f"<tr><td>{html.escape(new.pair)}</td>{''.join(cells)}</tr>")
    return f"<table>{''.join(lines)}</table>"


def _cell(metric: str, old: float | None, new: float) -> str:
    factor = 100 if metric == "folds" else 1
    if old is None or metric not in _COMPARED:
        return f"<td>{factor * new:.4f}</td>"
    improved = new > old if metric in _HIGH_IS_GOOD else new < old
    kind = "better" if improved else "worse" if new != old else ""
    return f"<td class='{kind}'>{old:.3f} → {new:.3f}</td>"


def _embedded(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=70)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f"<img alt='' src='data:image/png;base64,{data}'>"
