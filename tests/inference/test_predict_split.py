import csv
import math
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from l2reg.batch import Batch
from l2reg.data.dataset import Dataset
from l2reg.evaluation.score_files import read_scores
from l2reg.evaluation.score_submissions import SubmissionScores
from l2reg.inference.predict_split import predict_split
from l2reg.inference.predictor import Predictor
from l2reg.models.prediction import Prediction
from l2reg.models.zero import Zero
from l2reg.phantom.make import phantom_task
from l2reg.submission.rules import RULES

CPU = torch.device("cpu")


class Shift(torch.nn.Module):
    """Moves everything by one half-grid voxel along each axis."""

    grid = "half"

    def forward(self, batch: Batch) -> Prediction:
        return Prediction(torch.ones_like(batch["fixed"]).repeat(1, 3, 1, 1, 1))


def predicted(
    data: Dataset, model: torch.nn.Module, out: Path
) -> tuple[dict[str, SubmissionScores], np.ndarray]:
    predictor = Predictor(model, data.reader("half"), CPU, "float32")
    pairs = data.listed("val")
    result = predict_split(predictor, pairs, out, [], RULES["2021"])
    folder = data.release.task.folder
    assert result.zip_path == out / f"{folder}.zip"
    field = np.load(out / f"submission/{folder}/disp_{pairs[0].name}.npz")["arr_0"]
    return result.scores, field


@pytest.mark.parametrize("flavour", ["lung", "abdomen", "oasis"])
def test_the_zero_model_makes_the_exemplary_submission_and_its_scores(
    phantoms: dict[str, Path], open_data: Callable[..., Dataset], tmp_path: Path, flavour: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    data = open_data(phantom_task(flavour, "small", 0, 3, root=phantoms[flavour]))
    scores, field = predicted(data, Zero("half"), tmp_path / "out")
    assert (field == 0).all()
    assert field.dtype == np.float16
    shown = {name: [pair.values() for pair in row.pairs] for name, row in scores.items()}
    assert shown["submission"] == shown["zero field"] == shown["full resolution"]
    _, stored = read_scores(tmp_path / "out/scores.json")
    assert list(stored) == ["zero field", "full resolution", "submission"]
    with zipfile.ZipFile(tmp_path / f"out/{data.release.task.folder}.zip") as archive:
        assert archive.namelist()[0] == "submission/dummy.txt"
    assert "zero field" in capsys.readouterr().out
    with (tmp_path / "out/timings.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["pair"] for row in rows] == [pair.name for pair in data.listed("val")]
    assert all(float(row["seconds"]) > 0 for row in rows)
    assert set(stored["submission"].seconds) == {row["pair"] for row in rows}


def test_a_known_field_is_submitted_in_full_voxels_and_scored_as_the_organisers_will(
    phantoms: dict[str, Path], open_data: Callable[..., Dataset], tmp_path: Path
) -> None:
    data = open_data(phantom_task("lung", "small", 0, 3, root=phantoms["lung"]))
    scores, field = predicted(data, Shift(), tmp_path / "out")
    expected = np.array([71 / 35, 63 / 31, 79 / 39])
    np.testing.assert_allclose(field[:, 3, 4, 5], expected, rtol=1e-3)
    tre = {name: row.pairs[0].values()["tre_mm"] for name, row in scores.items()}
    assert math.isclose(tre["full resolution"], tre["submission"], abs_tol=0.01)
    assert abs(tre["zero field"] - tre["submission"]) > 0.1


def test_without_anything_to_score_with_the_zip_is_still_checked(
    lung_2021: Path, tiny_task: Callable[..., object], open_data: Callable[..., Dataset],
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (lung_2021 / "task_02/training/lms/case_001.txt").unlink()
    data = open_data(tiny_task("lung"), lung_2021)
    scores, _ = predicted(data, Zero("half"), tmp_path / "out")
    assert scores == {}
    assert not (tmp_path / "out/scores.json").exists()
    assert "nothing is scored" in capsys.readouterr().out


def test_the_current_form_is_scored_by_the_current_rules(
    phantoms: dict[str, Path], open_data: Callable[..., Dataset], tmp_path: Path
) -> None:
    """Nothing is lost on the way: the full field is what is submitted."""
    data = open_data(phantom_task("lung", "small", 0, 3, root=phantoms["lung"]))
    predictor = Predictor(Shift(), data.reader("half"), CPU, "float32")
    pairs = data.listed("val")
    (tmp_path / "out").mkdir()
    result = predict_split(predictor, pairs, tmp_path / "out", [], RULES["current"])
    with zipfile.ZipFile(result.zip_path) as archive:
        assert archive.namelist() == [f"disp_{pairs[0].name}.nii.gz"]
    content, stored = read_scores(tmp_path / "out/scores.json")
    assert content["rules"] == "current"
    full, submitted = (stored[name].pairs[0] for name in ("full resolution", "submission"))
    np.testing.assert_allclose(full.tre_mm, submitted.tre_mm, atol=1e-4)
    assert full.change.sdlogj == pytest.approx(submitted.change.sdlogj, abs=1e-6)
