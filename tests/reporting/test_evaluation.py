import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from l2reg.data.dataset import Dataset
from l2reg.data.phantom import phantom_task
from l2reg.problems import InputError
from l2reg.reporting.evaluation import evaluate_submissions
from l2reg.submission.fields import write_field


@pytest.fixture
def data(phantoms: dict[str, Path], open_data: Callable[..., Dataset]) -> Dataset:
    return open_data(phantom_task("lung", "small", 0, 3, root=phantoms["lung"]))


@pytest.fixture
def zero(tmp_path: Path) -> Path:
    write_field(tmp_path / "zero/task_02", "0001_0001", np.zeros((3, 36, 32, 40), np.float16))
    return tmp_path / "zero"


def test_submissions_are_scored_beside_the_zero_field(
    data: Dataset, zero: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = evaluate_submissions(data, "val", [zero], tmp_path / "out", report=True)
    assert [path.name for path in paths] == ["scores.json", "report.html"]
    scores = json.loads(paths[0].read_text())
    ours, none = scores[str(zero)]["aggregates"], scores["zero field"]["aggregates"]
    assert ours["tre_mm"] == none["tre_mm"]
    table = capsys.readouterr().out
    assert "zero field" in table
    assert str(zero) in table
    assert paths[1].stat().st_size > 50_000


def test_the_same_submission_twice_is_refused(data: Dataset, zero: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="names one twice"):
        evaluate_submissions(data, "val", [zero, zero], tmp_path / "out", report=False)
    assert not (tmp_path / "out").exists()


def test_without_a_submission_the_zero_field_alone_is_scored(data: Dataset, tmp_path: Path) -> None:
    paths = evaluate_submissions(data, "val", [], tmp_path / "out", report=True)
    assert [path.name for path in paths] == ["scores.json"]
