import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from l2reg.batch import Batch
from l2reg.checkpoints import storage
from l2reg.checkpoints.trained_model import load_trained_model
from l2reg.config.task_nodes import single_task_config
from l2reg.inference.predict_split import prepare_prediction
from l2reg.losses.objective import Objective
from l2reg.models.prediction import Prediction
from l2reg.problems import InputError
from l2reg.training.mixed_tasks import MixedBatches, MixedObjective
from l2reg.training.setup import prepare_training

TinyRun = Callable[..., dict[str, Any]]


class Steps:
    """Batches that hold the step, of a shape of their own."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __getitem__(self, step: int) -> Batch:
        return {"fixed": torch.full((2, 1, self.size, 4, 5), float(step))}


class Weighted(nn.Module):
    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, prediction: Prediction, batch: Batch) -> dict[str, torch.Tensor]:
        return {"mse": self.weight * batch["fixed"].mean()}


def test_tasks_take_turns_each_on_its_own_grid_and_with_its_own_loss() -> None:
    batches = MixedBatches({"lung": Steps(3), "oasis": Steps(6)})
    objective = MixedObjective({"lung": Weighted(1.0), "oasis": Weighted(10.0)})
    still = Prediction(torch.zeros(1, 3, 2, 2, 2))
    said = [objective(still, batches[step]) for step in (3, 0, 2, 1)]  # in whatever order
    assert [{name: float(value) for name, value in terms.items()} for terms in said] == [
        {"oasis/mse": 30.0}, {"lung/mse": 0.0}, {"lung/mse": 2.0}, {"oasis/mse": 10.0},
    ]  # fmt: skip
    assert [batches[step]["fixed"].shape[2] for step in range(4)] == [3, 6, 3, 6]


def test_each_task_has_the_scheduled_weights_of_its_own() -> None:
    fading = Objective({"a": nn.Identity()}, {"a": {"from": 1, "to": 0, "steps": 4}})
    objective = MixedObjective({"lung": fading, "oasis": Weighted(1.0)})
    objective.set_step(1)
    assert objective.scheduled_weights() == {"lung/a": 0.75}


def lines(kind: str) -> list[dict[str, float]]:
    every = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    return [line for line in every if any(key.startswith(kind) for key in line)]


def test_a_mixed_run_trains_and_validates_every_task(mixed_run: TinyRun) -> None:
    trainer = prepare_training(mixed_run("trainer.symmetric=true", "trainer.validate_every=3"))
    shapes = [trainer.batches[step]["fixed"].shape for step in range(3)]
    assert len(set(shapes)) == 3
    trainer.run()
    trained = [next(key for key in line if key.count("/") == 2) for line in lines("train/")]
    assert [key.split("/")[1] for key in trained] == ["lung", "abdomen", "oasis"]
    (last,) = [line for line in lines("val/") if line["step"] == 3]
    assert {"val/lung/tre_mm", "val/abdomen/dsc", "val/oasis/dsc"} <= set(last)
    assert not Path("run/best.pt").exists()
    assert Path("run/last.pt").exists()


def test_a_mixed_run_resumed_equals_one_never_stopped_bit_for_bit(mixed_run: TinyRun) -> None:
    options = ["trainer.max_steps=4", "trainer.validate_every=0", "trainer.checkpoint_every=1"]
    prepare_training(mixed_run(*options)).run()
    whole, log = storage.load(Path("run/last.pt")), Path("run/metrics.jsonl").read_text()

    interrupted = prepare_training(mixed_run(*options, "overwrite=true"))

    def stop(trainer: Any, scalars: Any) -> None:
        trainer.stop_requested = trainer.step == 2

    stop.close = lambda: None  # type: ignore[attr-defined]
    interrupted.hooks = [stop, *interrupted.hooks]  # type: ignore[list-item]
    interrupted.run()
    assert interrupted.step == 2
    prepare_training(mixed_run(*options, "resume=true", "data.cache=elsewhere")).run()
    after = storage.load(Path("run/last.pt"))
    assert all(torch.equal(whole["model"][name], after["model"][name]) for name in whole["model"])
    assert Path("run/metrics.jsonl").read_text() == log


def test_a_mixed_checkpoint_is_fine_tuned_on_and_predicts_each_of_its_tasks(
    mixed_run: TinyRun, tiny_run: TinyRun, composed: TinyRun
) -> None:
    mixed = {**mixed_run("trainer.validate_every=0"), "run_dir": "mixed"}
    tasks = mixed["mixed"]["tasks"]
    tasks["phantom"] = tasks.pop("lung")
    trainer = prepare_training(mixed)
    trainer.run()
    tuned = prepare_training(tiny_run("init_from=mixed"))
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(tuned.model.state_dict()[name], value)
    assert len(storage.load(Path("run/last.pt"))["trained_on"]) == 4 + 4 + 3

    loaded = load_trained_model(Path("mixed"), {"data.cache": None}, "oasis")
    assert loaded.config["task"]["flavour"] == "oasis"
    assert loaded.config["data"]["cache"] is None
    predict = composed("predict", "ckpt=mixed", "task=phantom", "device=cpu", "out=out")
    assert [pair.name for pair in prepare_prediction(predict, []).pairs] == ["0001_0001"]
    with pytest.raises(InputError, match=r"(?s)needs to know the task.*task=oasis"):
        prepare_prediction({**predict, "task": None}, [])


def test_faults_of_all_tasks_are_told_together(mixed_run: TinyRun) -> None:
    config = mixed_run("loss.weights.inverse_consistency=1")
    with pytest.raises(InputError) as error:
        prepare_training(config)
    assert len(error.value.problems) == 3


def test_the_config_of_one_task_is_that_which_it_would_have_alone(
    mixed_run: TinyRun, tiny_run: TinyRun
) -> None:
    alone = tiny_run("seed=3", flavour="abdomen")
    assert single_task_config(mixed_run("seed=3"), "abdomen") == alone
    assert single_task_config(alone, None) == alone


def test_mixed_tasks_have_no_score_to_be_patient_with(mixed_run: TinyRun) -> None:
    with pytest.raises(InputError, match=r"trainer\.patience=2: needs one score"):
        prepare_training(mixed_run("trainer.patience=2"))
    assert not Path("run").exists()
