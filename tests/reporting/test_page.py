import base64
import hashlib
import re
from pathlib import Path

import torch
from matplotlib.figure import Figure

import l2reg
from l2reg.reporting.page import (
    chart_html,
    flags_html,
    provenance,
    provenance_html,
    table_html,
    text_html,
    write_page,
)

EVIL = "<script>alert('1')</script>\" onerror='x'"


def test_only_the_script_of_the_viewer_may_run(tmp_path: Path) -> None:
    write_page(tmp_path / "a.html", EVIL, ["<p>a</p>"])
    page = (tmp_path / "a.html").read_text()
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'\"" in page
    assert "default-src 'none'" in page
    assert not re.search(r"https?:|@import|url\(", page)


def test_all_words_are_escaped() -> None:
    figure = Figure(figsize=(1, 1))
    for part in (table_html([EVIL], [[EVIL]]), text_html(EVIL), flags_html([EVIL]),
                 provenance_html({EVIL: EVIL}), chart_html(figure, EVIL)):  # fmt: skip
        assert "<script" not in part
        assert "&lt;script" in part
        assert "\" onerror='x'" not in part


def test_a_page_says_how_it_was_made() -> None:
    made = provenance(command="l2reg register a b", model="")
    assert list(made) == ["command", "versions", "date"]
    assert f"l2reg {l2reg.__version__}" in made["versions"]
    assert f"torch {torch.__version__.split('+')[0]}" in made["versions"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", made["date"])
    assert "Nothing suggests" in flags_html([])
