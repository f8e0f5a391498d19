from html.parser import HTMLParser
from pathlib import Path

import numpy as np

from l2reg.evaluation.evaluate import PairScores
from l2reg.reporting.figures import determinant_figure
from l2reg.reporting.report import write_report


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.images: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.classes: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "img":
            self.images.append(values["src"] or "")
        if "href" in values:
            self.links.append(values["href"] or "")
        self.classes.append(values.get("class") or "")

    def handle_data(self, data: str) -> None:
        self.text += data


def scores(tre: float) -> list[PairScores]:
    return [PairScores("0001_0001", {}, {}, [tre], 0.05, 0.0, (0.9, 1.1))]


def test_the_page_stands_alone_with_scores_before_and_after_and_pictures(tmp_path: Path) -> None:
    figure = determinant_figure(np.zeros((3, 6, 7, 8), np.float32))
    rows = {"zero field": scores(6.0), "ours <b>": scores(2.0), "worse": scores(9.0)}
    write_report(tmp_path / "report.html", "Task lung", rows, [("Pair 0001_0001", [figure])])
    page = Page((tmp_path / "report.html").read_text())
    assert len(page.images) == 1
    assert page.images[0].startswith("data:image/png;base64,")
    assert page.links == []
    for words in ("Task lung", "6.000 → 2.000", "6.000 → 9.000", "ours <b>", "TRE mm"):
        assert words in page.text
    assert page.classes.count("better") == 1
    assert page.classes.count("worse") == 1
