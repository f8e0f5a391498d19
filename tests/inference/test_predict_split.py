import csv
import math
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml

from l2reg.batch import Batch
from l2reg.checkpoints import storage
from l2reg.data.dataset import Dataset
from l2reg.evaluation.score_files import read_scores
from l2reg.evaluation.score_submissions import SubmissionScores
from l2reg.inference.method import Method
from l2reg.inference.predict_split import predict_split, prepare_prediction
from l2reg.inference.predictor import Predictor
from l2reg.models.prediction import Prediction
from l2reg.models.zero import Zero
from l2reg.phantom.make import phantom_task
from l2reg.problems import InputError
from l2reg.submission.rules import RULES
from l2reg.training.setup import prepare_training

CPU = torch.device("cpu")


class Shift(torch.nn.Module):
    """Moves everything by one half-grid voxel along each axis."""

    grid = "half"

    def forward(self, batch: Batch) -> Prediction:
        return Prediction(torch.ones_like(batch["fixed"]).repeat(1, 3, 1, 1, 1))


def predicted(
    data: Dataset, model: torch.nn.Module, out: Path
) -> tuple[dict[str, SubmissionScores], np.ndarray]:
    predictor = Predictor(Method(model), data.reader)
    pairs = data.split_pairs("val")
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
    assert [row["pair"] for row in rows] == [pair.name for pair in data.split_pairs("val")]
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
    predictor = Predictor(Method(Shift()), data.reader)
    pairs = data.split_pairs("val")
    (tmp_path / "out").mkdir()
    result = predict_split(predictor, pairs, tmp_path / "out", [], RULES["current"])
    with zipfile.ZipFile(result.zip_path) as archive:
        assert archive.namelist() == [f"disp_{pairs[0].name}.nii.gz"]
    content, stored = read_scores(tmp_path / "out/scores.json")
    assert content["rules"] == "current"
    full, submitted = (stored[name].pairs[0] for name in ("full resolution", "submission"))
    np.testing.assert_allclose(full.tre_mm, submitted.tre_mm, atol=1e-4)
    assert full.change.sdlogj == pytest.approx(submitted.change.sdlogj, abs=1e-6)


TinyRun = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trained") / "run"


@pytest.fixture
def run(tiny_run: TinyRun, trained: Path) -> None:
    """A run in the working folder, trained once for all tests."""
    if trained.exists():
        shutil.copytree(trained, "run")
        return
    prepare_training(tiny_run()).run()
    shutil.copytree("run", trained)


def prepared(composed: TinyRun, *overrides: str) -> Any:
    config = composed("predict", "device=cpu", *overrides)
    keys = [text.split("=", 1)[0] for text in ["device=cpu", *overrides]]
    return prepare_prediction(config, keys)


def test_scans_excluded_in_training_need_not_exist_in_other_data_unless_they_are_named_anew(
    tiny_run: TinyRun, composed: TinyRun
) -> None:
    prepare_training(tiny_run())
    state = storage.load(Path("run/last.pt"))
    state["config"]["data"]["exclude"] = [9999, "0002", "img0007"]
    storage.save(Path("run/other.pt"), state)
    job = prepared(composed, "ckpt=run/other.pt")
    assert [pair.name for pair in job.pairs] == ["0001_0001"]
    with pytest.raises(InputError, match="names no scan") as error:
        prepared(composed, "ckpt=run/other.pt", "data.exclude=[9999]", "overwrite=true")
    assert "data.exclude=9999" in str(error.value)


@pytest.mark.usefixtures("run")
def test_a_run_predicts_its_own_task_into_its_own_folder_and_its_notes_are_stored(
    composed: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    job = prepared(composed, "ckpt=run")
    assert job.out == Path("run/predict_val")
    predicted = predict_split(job.predictor, job.pairs, job.out, [], job.rules, job.notes)
    assert predicted.zip_path == Path("run/predict_val/task_02.zip")
    assert job.notes == ["best.pt was selected by its scores on 1 of 1 pair"]
    stored = read_scores(job.out / "scores.json")[1]
    assert [list(own.notes) for own in stored.values()] == [[], job.notes, job.notes]
    assert f"note on full resolution, submission: {job.notes[0]}" in capsys.readouterr().out
    assert yaml.safe_load((job.out / "config.yaml").read_text())["task"]["flavour"] == "lung"


@pytest.mark.usefixtures("run")
def test_a_prediction_never_deletes_its_run_or_what_it_reads(
    composed: TinyRun, phantoms: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"has no \.l2reg_prediction"):
        prepared(composed, "ckpt=run", "out=run", "overwrite=true")
    copied = tmp_path / "out/data"
    shutil.copytree(phantoms["lung"], copied)
    (tmp_path / "out/run").symlink_to(tmp_path / "run")
    (tmp_path / "out/.l2reg_prediction").touch()
    for options in (["ckpt=out/run"], ["ckpt=run", f"data.root={copied}"]):
        with pytest.raises(InputError, match="is not deleted: it is needed"):
            prepared(composed, *options, "out=out", "overwrite=true")
    assert (copied / "phantom.json").exists()
    assert (tmp_path / "run/last.pt").exists()


@pytest.mark.usefixtures("run")
def test_an_output_folder_that_exists_asks_for_overwrite(composed: TinyRun) -> None:
    prepared(composed, "ckpt=run", "out=there")
    with pytest.raises(InputError, match="overwrite=true"):
        prepared(composed, "ckpt=run", "out=there")
    Path("there/left.txt").write_text("x")
    prepared(composed, "ckpt=run", "out=there", "overwrite=true")
    assert not Path("there/left.txt").exists()


@pytest.mark.usefixtures("run")
def test_a_checkpoint_of_another_task_is_refused(composed: TinyRun) -> None:
    with pytest.raises(InputError, match=r"(?s)another task.*task=lung.*task=phantom"):
        prepared(composed, "ckpt=run", "task=lung")


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize("override", ["loss=mse", "model=unet", "trainer.max_steps=1"])
def test_what_a_checkpoint_decides_cannot_be_overridden(composed: TinyRun, override: str) -> None:
    with pytest.raises(InputError, match="cannot be changed together with ckpt="):
        prepared(composed, "ckpt=run", override)


@pytest.mark.usefixtures("run")
def test_data_keys_act_on_a_checkpoint(composed: TinyRun, tmp_path: Path) -> None:
    own = tmp_path / "own.csv"
    own.write_text("fixed, moving\n2, 2\n3, 3\n")
    job = prepared(composed, "ckpt=run", f"data.pairs={own}")
    assert [pair.name for pair in job.pairs] == ["0002_0002", "0003_0003"]
    assert job.notes == ["trained on 2 of 2 pairs: their scores are an overfit check"]


@pytest.mark.usefixtures("run")
def test_a_checkpoint_is_refined_as_its_task_asks(composed: TinyRun) -> None:
    with pytest.raises(InputError, match=r"(?s)depends on the task.*add task=phantom"):
        prepared(composed, "ckpt=run", "refine=gauss_newton")
    given = ["ckpt=run", "task=phantom", "refine=gauss_newton", "refine.elastic=0.5"]
    job = prepared(composed, *given)
    assert job.predictor.method.refinement.elastic == 0.5
    assert job.predictor.readers[1].shape == (72, 64, 80)
    assert yaml.safe_load((job.out / "config.yaml").read_text())["refine"]["elastic"] == 0.5
    assert prepared(composed, "ckpt=run", "out=plain").predictor.method.refinement is None


def test_labels_to_refine_with_are_those_given_and_never_those_scored_with(
    composed: TinyRun, tmp_path: Path
) -> None:
    def made(*overrides: str) -> Any:
        asked = ["model=zero", "task=phantom", "refine=gauss_newton", "device=cpu", *overrides]
        config = composed("predict", *asked, flavour="abdomen")
        return prepare_prediction(config, [text.split("=", 1)[0] for text in asked])

    with pytest.raises(InputError, match=r"(?s)no labels to compare.*scored with are never read"):
        made("refine.label_weight=1.0")
    given = f"data.pseudo_labels.root={tmp_path}"
    with pytest.raises(InputError, match=rf"none for 1 pair in {tmp_path}"):
        made("refine.label_weight=1.0", given)
    unread = made(given)
    (pair,) = unread.pairs
    folder = pair.fixed.image.parents[1]
    for scan in (pair.fixed, pair.moving):
        path = tmp_path / scan.image.relative_to(folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(scan.labels, path)
    job = made("refine.label_weight=1.0", given, "out=read")
    assert job.notes == [f"labels from {tmp_path} were compared in 1 of 1 pair"]
    assert tmp_path in job.predictor.allowed_inputs(pair).fixed.labels.parents
    assert job.predictor.read(pair)[-1]["fixed_labels"].max() > 0
    assert unread.predictor.read(pair)[-1]["fixed_labels"].max() == 0


def test_zero_needs_no_checkpoint(composed: TinyRun) -> None:
    job = prepared(composed, "model=zero", "task=phantom")
    assert job.out == Path("out/zero_phantom_val")
    assert job.notes == []


def test_a_header_without_a_valid_place_is_told_before_the_work_if_files_are_saved(
    composed: TinyRun, phantoms: dict[str, Path], tmp_path: Path
) -> None:
    root = shutil.copytree(phantoms["lung"], tmp_path / "root")
    path = root / "task_02/training/scans/case_001_exp.nii.gz"
    image = nib.load(path)
    sheared = image.affine.copy()
    sheared[0, 2] = 0.5
    bad = nib.Nifti1Image(np.asarray(image.dataobj), sheared)
    bad.set_qform(None, code=0)
    bad.header.set_zooms(image.header.get_zooms())
    nib.save(bad, path)
    config = composed("predict", "model=zero", "task=phantom", "device=cpu", "save=[grid]")
    config["task"]["root"] = str(root)
    with pytest.raises(InputError, match=r"case_001_exp\.nii\.gz: has a sheared sform"):
        prepare_prediction(config, ["model", "task", "device", "save"])
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([], "ckpt missing, model missing, task missing"),
        (["model=zero"], "model given, task missing"),
        (["model=unet", "task=phantom"], "needs to be trained first"),
        (["ckpt=nowhere"], r"nowhere: is missing"),
        (["model=zero", "task=phantom", "save=[nothing]"], "save="),
        (["model=zero", "task=phantom", "split=train"], "(?s)split=train: is no split.*split=val"),
        (["model=zero", "task=phantom", "split=test"], "has no pair"),
        (["model=zero", "task=phantom", "device=cuda:77"], "device=cuda:77"),
        (["model=zero", "task=phantom", "precision=fp16"], "float32, tf32, bf16"),
        (["model=zero", "task=phantom", "rules=2022"], "rules=2022: are unknown"),
    ],
)
def test_what_cannot_be_predicted_is_told_before_anything_is_written(
    composed: TinyRun, overrides: list[str], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        job = prepared(composed, *overrides)
        job.predictor.warm_up()
    assert not Path("nowhere").exists()
