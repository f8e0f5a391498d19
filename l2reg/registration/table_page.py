"""HTML report of a table of pairs: the worst first, failed ones named, and pairs to look at."""

import html
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import quote

from l2reg.reporting.page import flags_html, provenance_html, write_page
from l2reg.reporting.report import MAX_PAIRS_DRAWN, PAIRS_HTML
from l2reg.reporting.viewer import read_viewer
from l2reg.wording import quantity

PAGE = "report.html"  # of the table, and of each pair
_FLAGS = "<th class='flags'>flags</th>"
_STATUSES = ("failed", "flagged", "ok")  # the worst first
_MEASURES = {  # heading, column before and after, and the sign by which the worst is lowest
    "error mm": ("tre_mm_{}", -1),
    "Dice": ("dice_{}", 1),
    "similarity": ("similarity_{}", 1),
}


def sort_worst_first(results: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows of a table of results: failed, flagged, others, by their scores.

    Of two rows of one status the larger landmark error is worse, then the lower Dice, then the
    lower similarity.
    """

    def rank(result: Mapping[str, Any]) -> tuple[float, ...]:
        after = [(result.get(name.format("after")), sign) for name, sign in _MEASURES.values()]
        values = [math.inf if text is None else sign * float(text) for text, sign in after]
        return (_STATUSES.index(result["status"]), *values)

    return sorted(results, key=rank)


def write_table_page(
    path: Path, title: str, results: Sequence[Mapping[str, Any]], made: Mapping[str, str]
) -> None:
    """Write a page on all pairs of a table, which shows the worst and links to the page of each.

    Args:
        path: HTML file to write, in the folder that holds a folder for each pair, with its page.
        title: Headline, plain text.
        results: Rows of the table of results.
        made: How they were made, see ``provenance``.
    """
    rows = sort_worst_first(results)
    failed = [row for row in rows if row["status"] == "failed"]
    flagged = [row for row in rows if row["status"] == "flagged"]
    words = f"{quantity(len(rows), 'pair')}: {len(flagged)} flagged, {len(failed)} failed."
    warnings = [f"{row['name']} failed: {row['error']}" for row in failed]
    warnings += [f"{row['name']}: {row['flags']}" for row in flagged]
    parts = [f"<h1>{html.escape(title)}</h1><p>{words}</p>", flags_html(warnings)]
    drawn = [path.parent / row["name"] / PAGE for row in rows if row["status"] != "failed"]
    viewers = (
        read_viewer(page, opened=index == 0) for index, page in enumerate(drawn[:MAX_PAIRS_DRAWN])
    )
    table = "".join(_table_rows(rows))
    middle = [f"<div class='table'><table>{table}</table></div>", PAIRS_HTML]
    write_page(path, title, chain(parts, middle, viewers, [provenance_html(made)]))


def _table_rows(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    measures = {
        heading: [column.format(when) for when in ("before", "after")]
        for heading, (column, _) in _MEASURES.items()
        if any(column.format("after") in row for row in rows)
    }
    head = "".join(f"<th>{heading}<br>before → after</th>" for heading in measures)
    yield f"<tr><th>pair</th><th>status</th>{head}<th>overlap</th><th>folds</th>{_FLAGS}</tr>"
    for row in rows:
        name, failed = html.escape(row["name"]), row["status"] == "failed"
        link = name if failed else f"<a href='{quote(row['name'])}/{PAGE}'>{name}</a>"
        pairs = ([row.get(column) for column in columns] for columns in measures.values())
        cells = [link, row["status"], *(_change(*pair) for pair in pairs)]
        cells += [_fraction(row.get("overlap")), _fraction(row.get("folds"))]
        words = html.escape(_headlines(row["error"]) if failed else row["flags"])
        shown = "".join(f"<td>{cell}</td>" for cell in cells)
        yield f"<tr>{shown}<td class='flags'>{words}</td></tr>"


def _headlines(error: str) -> str:
    """Return the first lines of the problems of an error, which is there in full above."""
    return "; ".join(line for line in error.splitlines() if not line.startswith(" "))


def _change(before: str | None, after: str | None) -> str:
    return "-" if before is None or after is None else f"{float(before):.3g} → {float(after):.3g}"


def _fraction(value: str | None) -> str:
    return "-" if value is None else f"{100 * float(value):.3g} %"
