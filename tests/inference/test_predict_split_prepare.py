import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from l2reg.inference.predict_split import predict_split, prepare_prediction
from l2reg.problems import InputError
from l2reg.training.setup import prepare_training

TinyRun = Callable[..., dict[str, Any]]


@pytest.fixture
def run(tiny_run: TinyRun) -> None:
    prepare_training(tiny_run()).run()


def prepared(composed: TinyRun, *overrides: str) -> Any:
    config = composed("predict", "device=cpu", *overrides)
    keys = [text.split("=", 1)[0] for text in ["device=cpu", *overrides]]
    return prepare_prediction(config, keys)


@pytest.mark.usefixtures("run")
def test_a_run_predicts_its_own_task_into_its_own_folder(composed: TinyRun) -> None:
    job = prepared(composed, "ckpt=run")
    assert job.out == Path("run/predict_val")
    predicted = predict_split(job.predictor, job.pairs, job.out, [], job.rules)
    assert predicted.zip_path == Path("run/predict_val/task_02.zip")
    assert job.notes == ["best.pt was chosen by its scores on 1 of 1 pairs"]
    assert yaml.safe_load((job.out / "config.yaml").read_text())["task"]["flavour"] == "lung"


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
    assert job.notes == ["2 of 2 pairs were trained on: their scores are an overfit check"]


@pytest.mark.usefixtures("run")
def test_a_checkpoint_is_refined_as_its_task_asks(composed: TinyRun) -> None:
    with pytest.raises(InputError, match=r"(?s)depends on the task.*add task=phantom"):
        prepared(composed, "ckpt=run", "refine=gauss_newton")
    given = ["ckpt=run", "task=phantom", "refine=gauss_newton", "refine.elastic=0.5"]
    job = prepared(composed, *given)
    assert job.predictor.refinement.refine.elastic == 0.5
    assert job.predictor.refinement.reader.shape == (72, 64, 80)
    assert yaml.safe_load((job.out / "config.yaml").read_text())["refine"]["elastic"] == 0.5
    assert prepared(composed, "ckpt=run", "out=plain").predictor.refinement is None


def test_labels_to_refine_with_are_those_given_and_never_those_scored_with(
    composed: TinyRun, tmp_path: Path
) -> None:
    def made(*overrides: str) -> Any:
        asked = ["model=zero", "task=phantom", "refine=gauss_newton", "device=cpu", *overrides]
        config = composed("predict", *asked, flavour="abdomen")
        return prepare_prediction(config, [text.split("=", 1)[0] for text in asked])

    with pytest.raises(InputError, match=r"(?s)no labels to compare.*scored with are never read"):
        made("refine.labels=1.0")
    given = f"data.pseudo_labels.root={tmp_path}"
    with pytest.raises(InputError, match=rf"none for 1 pairs in {tmp_path}"):
        made("refine.labels=1.0", given)
    unread = made(given)
    (pair,) = unread.pairs
    folder = pair.fixed.image.parents[1]
    for scan in (pair.fixed, pair.moving):
        path = tmp_path / scan.image.relative_to(folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(scan.labels, path)
    job = made("refine.labels=1.0", given, "out=read")
    assert job.notes == [f"labels from {tmp_path} were compared in 1 of 1 pairs"]
    assert tmp_path in job.predictor.refinement.given(pair).fixed.labels.parents
    assert job.predictor.read(pair)[-1]["fixed_labels"].max() > 0
    assert unread.predictor.read(pair)[-1]["fixed_labels"].max() == 0


def test_zero_needs_no_checkpoint(composed: TinyRun) -> None:
    job = prepared(composed, "model=zero", "task=phantom")
    assert job.out == Path("out/zero_phantom_val")
    assert job.notes == []


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
        (["model=zero", "task=phantom", "precision=fp16"], "float32 or bf16"),
        (["model=zero", "task=phantom", "format=2022"], "format=2022: are unknown"),
    ],
)
def test_what_cannot_be_predicted_is_told_before_anything_is_written(
    composed: TinyRun, overrides: list[str], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        job = prepared(composed, *overrides)
        job.predictor.warm_up()
    assert not Path("nowhere").exists()
