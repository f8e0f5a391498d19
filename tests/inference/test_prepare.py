from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from l2reg.checkpoints import storage
from l2reg.config.build import build
from l2reg.config.presets import CHALLENGE_TASKS, config_dir
from l2reg.config.task_nodes import node_name
from l2reg.data.dataset import Dataset
from l2reg.inference.predictor import Predictor
from l2reg.inference.prepare import (
    PreparedMethod,
    prepare_method,
    task_refinement,
    training_free_method,
)
from l2reg.optimisation.convex import Convex
from l2reg.optimisation.refinement import Refinement
from l2reg.phantom.make import phantom_task
from l2reg.problems import InputError


def prepared(*overrides: str) -> PreparedMethod:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        composed = compose("predict", overrides=[*overrides, "device=cpu", "run_dir=unused"])
    config: Any = OmegaConf.to_container(composed, resolve=True)
    return prepare_method(config, [override.split("=", 1)[0] for override in overrides])


def test_no_data_are_needed_to_prepare() -> None:
    ready = prepared("model=convex", "task=lung", "data.root=nowhere")
    assert isinstance(ready.method.model, Convex)
    assert isinstance(ready.method.refinement, Refinement)
    assert ready.trained is None
    assert node_name(ready.config["task"]) == "lung"
    assert prepared("model=convex", "task=lung", "refine=none").method.refinement is None


@pytest.mark.parametrize("task", CHALLENGE_TASKS)
def test_the_training_free_method_of_a_task_is_what_predict_py_runs(task: str) -> None:
    ready = prepared("model=convex", f"task={task}").method
    method = training_free_method(task, torch.device("cpu"))
    assert method.refinement == ready.refinement
    assert vars(method.model)["levels"] == vars(ready.model)["levels"]
    assert method.grids == ready.grids


def test_the_predictor_reads_onto_the_grids_of_model_and_refinement(
    phantoms: dict[str, Path], open_data: Callable[..., Dataset]
) -> None:
    data = open_data(phantom_task("lung", "small", 0, 3, root=phantoms["lung"]))
    predictor = Predictor(prepared("model=convex", "task=lung").method, data.reader)
    batches = predictor.read(data.split_pairs("val")[0])
    assert [tuple(batch["fixed"].shape[2:]) for batch in batches] == [(36, 32, 40), (72, 64, 80)]
    assert predictor.device == torch.device("cpu")


@pytest.fixture
def runs() -> None:
    """Files clapirn.pt and lapirn.pt, whose networks move something."""
    small = ["task=lung", "model.width=4", "model.blocks=1", "model.stages=[0.5,1.0]"]
    for name in ("clapirn", "lapirn"):
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            composed = compose("train", overrides=[*small, f"model={name}", "run_dir=unused"])
        config: Any = OmegaConf.to_container(composed, resolve=True)
        model = build(config["model"])
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        state = {"model": model.state_dict(), "config": config, "trained_on": {}, "step": 1}
        storage.save(Path(f"{name}.pt"), state)


@pytest.mark.usefixtures("runs")
def test_the_smoothness_of_a_trained_network_is_chosen_when_it_predicts(
    rng: torch.Generator,
) -> None:
    batch = {name: torch.rand(1, 1, 12, 10, 14, generator=rng) for name in ("fixed", "moving")}
    fields = {}
    for given, chosen in (("0.5", 0.5), ("10", 10.0), ("2", 2.0), ("null", 2.0)):
        ready = prepared("ckpt=clapirn.pt", f"smoothness={given}")
        assert ready.config["model"]["smoothness"] == chosen
        prediction = ready.method.model.eval()(batch)
        assert prediction.smoothness is not None
        assert prediction.smoothness.tolist() == [chosen]
        fields[given] = prediction.disp
    assert torch.equal(fields["2"], fields["null"])  # as in its training
    for other in ("0.5", "10"):
        assert not torch.allclose(fields[other], fields["2"])


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["ckpt=clapirn.pt", "smoothness=11"], "smoothness=11: was not .*from 0 to 10"),
        (["ckpt=clapirn.pt", "smoothness=-1"], "smoothness=-1: was not trained for"),
        (["ckpt=clapirn.pt", "smoothness=.nan"], "was not trained for"),
        (["ckpt=clapirn.pt", "smoothness=smooth"], "smoothness=smooth: was not trained for"),
        (["ckpt=lapirn.pt", "smoothness=1"], "is no input of this network.*found +lapirn"),
        (["model=convex", "task=lung", "smoothness=1"], "is an input of trained networks"),
    ],
)
def test_a_smoothness_that_no_network_was_trained_for_is_refused(
    options: list[str], words: str
) -> None:
    with pytest.raises(InputError, match=f"(?s){words}"):
        prepared(*options)


def test_what_cannot_be_prepared_is_told() -> None:
    with pytest.raises(InputError, match="is missing"):
        prepared("ckpt=nowhere", "task=lung", "refine=gauss_newton")
    with pytest.raises(InputError, match="has no method to predict with"):
        prepared("task=lung")


def test_every_task_has_a_refinement_of_its_own() -> None:
    assert task_refinement("lung").grid == "full"
    assert task_refinement("abdomen").grid == "half"


def test_an_unknown_task_is_refused_with_those_that_have_one() -> None:
    with pytest.raises(InputError, match=r"(?s)lnug.*lung_gauss_newton"):
        task_refinement("lnug")
