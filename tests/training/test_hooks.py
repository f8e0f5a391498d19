import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch import nn

from l2reg.checkpoints import storage
from l2reg.problems import InputError
from l2reg.training.hooks import Log, Picture, Progress, SaveLast, Validate
from l2reg.training.schedule import WarmupCosine
from l2reg.training.trainer import Trainer, TrainerSettings


@pytest.fixture
def trainer() -> Trainer:
    model = nn.Linear(2, 2)
    settings = TrainerSettings(max_steps=40, batch_size=1, symmetric=False, precision="float32",
                        max_grad_norm=1.0, ema_decay=0.0, accumulate=1, freeze=None,
                           checkpoint_every=10, keep=1, validate_every=10, patience=None,
                        picture_every=10, profile_steps=0, stages=True,
                        activation_checkpointing=False, compile=False)  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = WarmupCosine(warmup=0.0, min_factor=0.0)
    return Trainer(model, nn.Identity(), optimizer, schedule, [], settings)  # type: ignore[arg-type]


def test_progress_writes_some_lines_where_nobody_watches(
    trainer: Trainer, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress(trainer)
    for trainer.step in range(1, 41):
        progress(trainer, {"loss": 0.5, "lr": 1.0})
    progress.close()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 20
    assert lines[-1].startswith("step 40/40  loss 0.5")
    assert "s/step, 0.0 min left" in lines[-1]


def test_scalars_are_appended_line_by_line(trainer: Trainer, tmp_path: Path) -> None:
    for trainer.step in (1, 2):
        log = Log(tmp_path, trainer, {})
        log(trainer, {"loss": 0.25})
        log.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [{"step": 1, "train/loss": 0.25}, {"step": 2, "train/loss": 0.25}]


def test_a_log_on_a_full_disk_is_named(trainer: Trainer, tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    log = Log(tmp_path, trainer, {})
    with pytest.raises(InputError, match=r"metrics\.jsonl: cannot be written, "):
        log.add(1, {"val/dsc": 0.5})
    log.close()


def test_a_scalar_that_is_no_number_is_null_in_the_log(trainer: Trainer, tmp_path: Path) -> None:
    log = Log(tmp_path, trainer, {})
    log.add(1, {"val/dsc": float("nan"), "val/hd95_voxels": float("inf")})
    log.close()
    line = (tmp_path / "metrics.jsonl").read_text()
    content = json.loads(line, parse_constant=pytest.fail)
    assert content == {"step": 1, "val/dsc": None, "val/hd95_voxels": "inf"}


def test_tensorboard_shows_the_settings_beside_the_scores(trainer: Trainer, tmp_path: Path) -> None:
    config = {"seed": 3, "data": {"exclude": [1, 2], "root": None}, "trainer": {"symmetric": True}}
    log = Log(tmp_path, trainer, config)
    log.add(1, {"val/dsc": 0.5})
    log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.value for event in events.Scalars("val/dsc")] == [0.5]
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    settings = HParamsPluginData.FromString(content).session_start_info.hparams
    assert settings["seed"].number_value == 3
    assert settings["data.exclude"].string_value == "[1, 2]"
    assert settings["data.root"].string_value == "null"
    assert settings["trainer.symmetric"].string_value == "true"


class FakeLog(Log):
    def __init__(self) -> None:
        self.added: list[Any] = []
        self.writer = SimpleNamespace(add_figure=lambda *args: self.added.append(args))

    def add(self, step: int, scalars: dict[str, float]) -> None:
        self.added.append((step, scalars))


def test_the_best_model_is_kept_and_a_worse_one_is_not(trainer: Trainer) -> None:
    qualities, saved, log = iter([0.1, 0.3, math.nan, 0.2]), [], FakeLog()
    hook = Validate(lambda: ({"val/dsc": 0.0}, next(qualities)),
                    lambda t, _: saved.append(t.step), log, every=10)  # type: ignore[arg-type]  # fmt: skip
    for trainer.step in range(1, 41):
        hook(trainer, {})
    assert saved == [10, 20]
    assert trainer.best == 0.3
    assert [step for step, _ in log.added] == [10, 20, 30, 40]


def test_patience_ends_training_after_validations_without_a_better_score(
    trainer: Trainer, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer.settings = replace(trainer.settings, patience=2)
    qualities = iter([0.1, 0.05, 0.3, 0.3, math.nan])
    hook = Validate(lambda: ({}, next(qualities)), lambda *_: None, FakeLog(), every=1)  # type: ignore[arg-type]
    ended = []
    for trainer.step in range(1, 6):
        hook(trainer, {})
        ended.append(trainer.finished)
    assert ended == [False, False, False, False, True]
    assert "none of the last 2 validations was better" in capsys.readouterr().out


def test_the_last_step_validates_and_draws_whatever_its_number(trainer: Trainer) -> None:
    log, trainer.step = FakeLog(), 40
    Validate(lambda: ({}, 1.0), lambda *_: None, log, every=1000)(trainer, {})  # type: ignore[arg-type]
    Picture(Figure, log, every=1000)(trainer, {})  # type: ignore[arg-type]
    assert len(log.added) == 2


def test_checkpoints_come_in_time_and_at_the_end(trainer: Trainer, tmp_path: Path) -> None:
    hook = SaveLast(tmp_path, {"config": {"seed": 1}}, None)

    def saved_step() -> int | None:
        path = tmp_path / "last.pt"
        return storage.load(path)["step"] if path.exists() else None

    trainer.step = 9
    hook(trainer, {})
    assert saved_step() is None
    trainer.step = 10
    hook(trainer, {})
    assert saved_step() == 10
    trainer.step = 13
    hook(trainer, {})
    assert saved_step() == 10
    trainer.step = 40
    hook(trainer, {})
    assert saved_step() == 40
    assert storage.load(tmp_path / "last.pt")["config"] == {"seed": 1}
