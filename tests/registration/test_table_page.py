from pathlib import Path

from l2reg.registration.table_page import PAGE, sort_worst_first, write_table_page
from l2reg.reporting.report import MAX_PAIRS_DRAWN

EVIL = "<img src=x>"


def row(name: str, status: str = "ok", **scores: str) -> dict[str, str]:
    others = {
        "similarity_before": "0.5",
        "similarity_after": "0.6",
        "overlap": "0.75",
        "folds": "0",
    }
    return {"name": name, "status": status, "flags": "", **others, **scores}


FAILED = {"name": f"lost {EVIL}", "status": "failed", "error": f"OSError: {EVIL}"}
ROWS = [
    row("far", tre_mm_before="9", tre_mm_after="7.25"),
    row("near", tre_mm_before="9", tre_mm_after="1.5"),
    row("poor", dice_before="0.5", dice_after="0.4"),
    row("well", dice_before="0.5", dice_after="0.9"),
    row("unlike", similarity_after="0.2"),
    row("alike"),
    row("odd", "flagged", tre_mm_before="9", tre_mm_after="0.5", flags="folds"),
    FAILED,
]


def test_the_worst_come_first_by_status_then_error_then_overlap_then_similarity() -> None:
    names = [each["name"] for each in sort_worst_first(list(reversed(ROWS)))]
    assert names == [FAILED["name"], "odd", "far", "near", "poor", "well", "unlike", "alike"]


def test_the_table_has_scores_links_and_no_foreign_markup(tmp_path: Path) -> None:
    for each in ROWS[:-1]:
        (tmp_path / each["name"]).mkdir()
        pair = f"<p>x</p><details class='pair' open><h3>{each['name']}</h3></details><p>y</p>"
        (tmp_path / each["name"] / PAGE).write_text(pair)
    write_table_page(tmp_path / PAGE, f"Pairs of {EVIL}", ROWS, {"command": f"run {EVIL}"})
    page = (tmp_path / PAGE).read_text()
    assert EVIL not in page
    for words in ("8 pairs: 1 flagged, 1 failed.", "<li>lost &lt;img src=x&gt; failed: OSError",
                  "<li>odd: folds</li>", "<td>9 → 7.25</td>", "<td>75 %</td>",
                  "<a href='near/report.html'>near</a>"):  # fmt: skip
        assert words in page
    shown = page.split("<details class='pair'")[1:]
    assert [part.split("<h3>")[1].split("<")[0] for part in shown[:2]] == ["odd", "far"]
    assert [part.startswith(" open") for part in shown] == [True] + [False] * 6
    assert "<p>y</p>" not in page


def test_no_more_pairs_are_shown_than_in_other_reports(tmp_path: Path) -> None:
    rows = [row(f"pair_{n}") for n in range(MAX_PAIRS_DRAWN + 3)]
    for each in rows:
        (tmp_path / each["name"]).mkdir()
        (tmp_path / each["name"] / PAGE).write_text("<details class='pair'></details>")
    write_table_page(tmp_path / PAGE, "Pairs", rows, {})
    page = (tmp_path / PAGE).read_text()
    assert page.count("<details class='pair'") == MAX_PAIRS_DRAWN
    assert page.count("/report.html'>") == len(rows)
    assert "Nothing suggests that the result is wrong" in page
