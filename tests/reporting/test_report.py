import math
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from l2reg.data.task import Task
from l2reg.evaluation.pair_scores import PairScores
from l2reg.evaluation.score_submissions import ZERO_FIELD, SubmissionScores
from l2reg.reporting.registered_pair import RegisteredPair
from l2reg.reporting.report import worst_first, write_report
from l2reg.submission.rules import RULES


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
        if tag == "img" and values["class"] == "chart":
            self.images.append(values["src"] or "")
            assert values["alt"]
        if "href" in values:
            self.links.append(values["href"] or "")
        self.classes.append(values.get("class") or "")

    def handle_data(self, data: str) -> None:
        self.text += data


Make = Callable[..., PairScores]


Write = Callable[..., Page]


@pytest.fixture
def written(tmp_path: Path, shown: Callable[..., RegisteredPair]) -> Write:
    def made(task: Task, scored: dict[str, SubmissionScores]) -> Page:
        path = tmp_path / "report.html"
        pairs = [("0001_0001", shown()), ("0002_0002", shown())]
        how = {"command": "l2reg evaluate"}
        write_report(path, "Task lung", scored, pairs, task, RULES["2021"], how)
        return Page(path.read_text())

    return made


def test_the_page_stands_alone_with_scores_before_and_after_charts_and_pictures(
    written: Write, tiny_task: Callable[..., Task], pair_scores: Make
) -> None:
    scored = {
        name: SubmissionScores([pair_scores(tre_mm=[error], folds=folds)])
        for name, error, folds in ((ZERO_FIELD, 6.0, 0), ("ours <b>", 2.0, 0.5), ("worse", 9.0, 0))
    }
    page = written(tiny_task("lung"), scored)
    assert len(page.images) == 3
    assert page.images[0].startswith("data:image/png;base64,")
    assert page.links == []
    for words in ("Task lung", "6.000 → 2.000", "6.000 → 9.000", "ours <b>", "TRE mm",
                  "Pair 0001_0001", "folds: 50.0000 %", "worse than the zero field",
                  "l2reg evaluate"):  # fmt: skip
        assert words in page.text
    assert "Statistics" not in page.text  # of one pair
    assert page.classes.count("better") == 1
    assert page.classes.count("worse") == 1


def test_a_pair_that_lacks_a_metric_keeps_its_place_in_the_table(
    written: Write, tiny_task: Callable[..., Task], pair_scores: Make
) -> None:
    scores = [pair_scores("0001_0001"), pair_scores("0002_0002", tre_mm=[], dsc={1: 0.5})]
    scored = {ZERO_FIELD: SubmissionScores(scores), "ours": SubmissionScores(scores)}
    page = written(tiny_task("abdomen"), scored)
    assert "0001_0001-2.000 → 2.000" in page.text
    assert "0002_00020.5000 → 0.5000-" in page.text
    assert "DSC: a value in 1 of 2 pairs" in page.text
    assert page.classes.count("worse") == 0


def test_labels_get_a_map_and_missing_pairs_a_warning(
    written: Write, tiny_task: Callable[..., Task], pair_scores: Make
) -> None:
    scores = [
        pair_scores(name, dsc={1: 0.5}, hd95_voxels={1: math.inf}, tre_mm=[])
        for name in ("0001_0001", "0002_0002")
    ]
    scored = {ZERO_FIELD: SubmissionScores(scores), "ours": SubmissionScores(scores, ["0009_0009"])}
    page = written(tiny_task("abdomen"), scored)
    assert len(page.images) == 4
    assert "ours lacks 0009_0009" in page.text
    assert "vanished when warped: liver" in page.text
    assert "DSC: first - second" in page.text


def test_the_worst_pairs_come_first(
    written: Write, tiny_task: Callable[..., Task], pair_scores: Make
) -> None:
    errors = {"0001_0001": 2.0, "0002_0002": 5.0, "0003_0003": 3.0}
    scores = [pair_scores(name, tre_mm=[error]) for name, error in errors.items()]
    assert [s.pair for s in worst_first(scores, scores)] == ["0002_0002", "0003_0003", "0001_0001"]
    scored = {ZERO_FIELD: SubmissionScores(scores), "ours": SubmissionScores(scores)}
    text = written(tiny_task("lung"), scored).text
    assert text.index("0002_00025") < text.index("0003_00033") < text.index("0001_00012")


def test_without_ground_truth_there_are_pairs_and_no_scores(
    written: Write, tiny_task: Callable[..., Task]
) -> None:
    page = written(tiny_task("lung"), {})
    assert "Nothing is scored" in page.text
    assert "Pair 0002_0002" in page.text
