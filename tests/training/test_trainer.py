import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from l2reg.batch import Batch, collate
from l2reg.checkpoints import storage
from l2reg.data.augment import Augment
from l2reg.problems import InputError
from l2reg.training.hooks import Log, SaveLast, Validate
from l2reg.training.schedule import WarmupCosine
from l2reg.training.trainer import Trainer, TrainerSettings

SHAPE = (8, 9, 10)


class Toy(nn.Module):
    """Dropout, so that a lost random state is visible."""

    def __init__(self) -> None:
        super().__init__()
        first, last = nn.Conv3d(2, 6, 3, padding=1), nn.Conv3d(6, 1, 1)
        self.layer = nn.Sequential(first, nn.Dropout(0.5), last)

    def forward(self, batch: Batch) -> torch.Tensor:
        out: torch.Tensor = self.layer(torch.cat([batch["fixed"], batch["moving"]], dim=1))
        return out


class Objective(nn.Module):
    def __init__(self, spoilt_at: int | None = None) -> None:
        super().__init__()
        self.calls = 0
        self.spoilt_at = spoilt_at

    def forward(self, out: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
        self.calls += 1
        size = 0.1 * out.abs().mean()
        if self.calls - 1 == self.spoilt_at:
            size = size * math.nan
        return {"mse": (out - batch["fixed"]).square().mean(), "size": size}


class AugmentedNoise:
    """Pairs that are functions of the step, augmented as functions of the step."""

    augment = Augment(flip_axes=[0], rotation_deg=9.0, scale=0.1, translation_mm=1.0,
                      elastic_mm=0.5, elastic_spacing_mm=4.0, moving_strength=0.5, gain=0.2,
                      noise=0.1)  # fmt: skip

    def __getitem__(self, step: int) -> Batch:
        rng = torch.Generator().manual_seed(step)
        images = {name: torch.rand(1, 1, *SHAPE, generator=rng) for name in ("fixed", "moving")}
        points = torch.zeros(1, 0, 3)
        sample = images | {"fixed_points": points, "moving_points": points,
                           "spacing_mm": torch.ones(1, 3)}  # fmt: skip
        for side in ("fixed", "moving"):
            sample[f"{side}_mask"] = torch.ones(1, 1, *SHAPE)
            sample[f"{side}_labels"] = torch.zeros(1, 1, *SHAPE, dtype=torch.int16)
        return self.augment(sample, np.random.default_rng((0, step, 0, 1)))


def settings(max_steps: int, **changes: Any) -> TrainerSettings:
    options = {
        "max_steps": max_steps,
        "batch_size": 1,
        "symmetric": False,
        "precision": "float32",
        "accumulate": 1,
        "max_grad_norm": 1.0,
        "ema_decay": 0.0,
        "freeze": None,
        "checkpoint_every": 100,
        "keep": 1,
        "validate_every": 0,
        "patience": None,
        "picture_every": 0,
        "profile_steps": 0,
        "stages": True,
        "activation_checkpointing": False,
        "compile": False,
        **changes,
    }
    return TrainerSettings(**options)


def build(max_steps: int, objective: nn.Module | None = None, **changes: Any) -> Trainer:
    torch.manual_seed(0)
    model = Toy()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = WarmupCosine(warmup=0.3, min_factor=0.1)
    return Trainer(model, objective or Objective(), optimizer, schedule,
                   AugmentedNoise(), settings(max_steps, **changes))  # fmt: skip


def same(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.parameters(), b.parameters(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


class Recorder:
    def __init__(self, stop_at: int | None = None) -> None:
        self.losses: list[float] = []
        self.lrs: list[float] = []
        self.stop_at = stop_at
        self.closed = False

    def __call__(self, trainer: Trainer, scalars: Any) -> None:
        self.losses.append(scalars["loss"])
        self.lrs.append(scalars["lr"])
        trainer.stop_requested = trainer.step == self.stop_at

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("changes", [{}, {"freeze": {"layer.0*": 4}}, {"ema_decay": 0.7}])
@pytest.mark.parametrize("stopped_at", [1, 3, 5])
def test_a_run_stopped_and_resumed_equals_one_never_stopped_bit_for_bit(
    tmp_path: Path, stopped_at: int, changes: dict[str, Any]
) -> None:
    whole, record = build(6, **changes), Recorder()
    whole.hooks = [record]
    whole.run()

    first = build(6, **changes)
    first.hooks = [Recorder(stop_at=stopped_at)]
    first.run()
    assert first.step == stopped_at
    assert not first.finished
    storage.save(tmp_path / "last.pt", first.state_dict())
    torch.rand(7)  # another program draws from the stream in between

    second, rest = build(6, **changes), Recorder()
    second.load_state_dict(storage.load(tmp_path / "last.pt"))
    second.hooks = [rest]
    second.run()
    assert second.finished
    assert same(whole.model, second.model)
    assert same(whole.validated_model, second.validated_model)
    assert rest.losses == record.losses[stopped_at:]
    assert rest.lrs == record.lrs[stopped_at:]
    assert rest.closed


class Fading(Objective):
    """An objective whose second term has a scheduled weight."""

    weight = 1.0

    def set_step(self, step: int) -> None:
        self.weight = 1.0 - 0.1 * step

    def scheduled_weights(self) -> dict[str, float]:
        return {"size": self.weight}

    def forward(self, out: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
        terms = super().forward(out, batch)
        return {**terms, "size": self.weight * terms["size"]}


def test_scheduled_weights_are_those_of_the_step_also_after_a_resumption() -> None:
    whole = build(4, Fading())
    seen = [whole.train_step(whole.batches[step])["weight/size"] for step in range(1)]
    whole.step = 3
    seen.append(whole.train_step(whole.batches[3])["weight/size"])
    assert seen == pytest.approx([1.0, 0.7])


class NoLog(Log):
    def add(self, step: int, scalars: Any) -> None:
        pass


def test_a_run_that_lost_patience_ends_saves_and_stays_ended(tmp_path: Path) -> None:
    def patient(last: int) -> Trainer:
        trainer = build(9, validate_every=1, patience=last)
        quality = iter([0.5, 0.4, 0.3, 0.2, 0.1])
        validate = Validate(
            lambda: ({}, next(quality)), lambda *_: None, NoLog(tmp_path, trainer, {}), every=1
        )
        trainer.hooks = [validate, SaveLast(tmp_path, {}, None)]
        return trainer

    trainer = patient(2)
    trainer.run()
    assert trainer.step == 3
    assert trainer.finished
    again = patient(2)
    again.load_state_dict(storage.load(tmp_path / "last.pt"))
    again.run()
    assert again.step == 3
    more = patient(3)
    more.load_state_dict(storage.load(tmp_path / "last.pt"))
    more.best = 9.0
    more.run()
    assert more.step == 4


def test_a_stop_that_is_requested_after_the_last_hook_was_called_saves_the_step(
    tmp_path: Path,
) -> None:
    trainer = build(6)
    trainer.hooks = [SaveLast(tmp_path, {}, None), Recorder(stop_at=3)]
    trainer.run()
    assert storage.load(tmp_path / "last.pt")["step"] == trainer.step == 3


def test_losing_the_random_state_would_be_seen() -> None:
    whole = build(6)
    whole.run()
    first = build(3)
    first.settings = settings(6)
    first.hooks = [Recorder(stop_at=3)]
    first.run()
    second = build(6)
    state = first.state_dict()
    second.load_state_dict({**state, "rng": build(6).state_dict()["rng"]})
    second.run()
    assert not same(whole.model, second.model)


def test_a_finished_run_has_nothing_left_to_do() -> None:
    done = build(2)
    done.run()
    again = build(2)
    again.load_state_dict(done.state_dict())
    again.run()
    assert same(done.model, again.model)
    assert again.step == 2


def test_a_staged_model_is_told_before_every_step_how_far_training_is() -> None:
    class StagedToy(Toy):
        def __init__(self) -> None:
            super().__init__()
            self.told: list[float] = []

        def set_progress(self, progress: float) -> None:
            self.told.append(progress)
            self.layer[0].requires_grad_(progress >= 0.5)

    other, model = build(4), StagedToy()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    trainer = Trainer(
        model, other.objective, optimizer, other.schedule, other.batches, other.settings
    )
    first, last = (model.layer[n].weight.detach().clone() for n in (0, 2))
    trainer.hooks = [Recorder(stop_at=2)]
    trainer.run()
    assert torch.equal(model.layer[0].weight, first)
    assert not torch.equal(model.layer[2].weight, last)
    trainer.stop_requested = False
    trainer.run()
    assert model.told == [0.0, 0.25, 0.5, 0.75]
    assert not torch.equal(model.layer[0].weight, first)


def test_raising_max_steps_stretches_the_schedule() -> None:
    trainer, record = build(8), Recorder()
    trainer.step = 4
    trainer.hooks = [record]
    trainer.run()
    schedule = WarmupCosine(warmup=0.3, min_factor=0.1)
    assert record.lrs == [pytest.approx(1e-2 * schedule.factor(step, 8)) for step in range(4, 8)]


def test_a_loss_that_is_not_finite_stops_with_step_and_every_term_and_spares_the_model() -> None:
    trainer, record = build(6, Objective(spoilt_at=2)), Recorder()
    trainer.hooks = [record]
    with pytest.raises(InputError, match=r"(?s)step 2.*mse [\d.]+, size nan.*optimizer\.lr"):
        trainer.run()
    clean = build(6)
    clean.hooks = [Recorder(stop_at=2)]
    clean.run()
    assert same(trainer.model, clean.model)
    assert record.closed


def test_a_gradient_that_is_not_finite_stops_too() -> None:
    class Root(nn.Module):
        def forward(self, out: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
            return {"root": (out * 0).square().mean().sqrt()}

    with pytest.raises(InputError, match="grad_norm nan"):
        build(3, Root()).run()


def test_gradients_are_clipped() -> None:
    def moved(max_grad_norm: float) -> float:
        trainer = build(1, max_grad_norm=max_grad_norm)
        before = [p.detach().clone() for p in trainer.model.parameters()]
        trainer.optimizer = torch.optim.SGD(trainer.model.parameters(), lr=1.0)
        trainer.run()
        after = trainer.model.parameters()
        return sum(float((a - b).detach().norm()) for a, b in zip(after, before, strict=True))

    assert moved(1e9) > 0.01
    assert moved(1e-9) < 1e-7


def test_parameters_are_frozen_until_their_step_and_trained_from_then_on() -> None:
    trainer = build(4, freeze={"layer.0*": 2})
    trainer.optimizer = torch.optim.AdamW(trainer.model.parameters(), lr=1e-2, weight_decay=0.1)
    history = []

    class Watch(Recorder):
        def __call__(self, trainer: Trainer, scalars: Any) -> None:
            history.append({n: p.detach().clone() for n, p in trainer.model.named_parameters()})

    start = {n: p.detach().clone() for n, p in trainer.model.named_parameters()}
    trainer.hooks = [Watch()]
    trainer.run()
    for before, after, learns in zip([start, *history], history, [0, 0, 1, 1], strict=False):
        assert torch.equal(before["layer.0.weight"], after["layer.0.weight"]) == (not learns)
        assert not torch.equal(before["layer.2.weight"], after["layer.2.weight"])


def test_training_lowers_the_loss() -> None:
    trainer, record = build(30), Recorder()
    trainer.hooks = [record]
    trainer.run()
    assert sum(record.losses[-5:]) < 0.8 * sum(record.losses[:5])


def test_an_error_while_reading_reaches_the_caller() -> None:
    class Broken:
        def __getitem__(self, step: int) -> Batch:
            raise InputError([])

    trainer = build(3)
    trainer.batches = Broken()
    with pytest.raises(InputError):
        trainer.run()


class Pairs:
    """Batches of several pairs at once."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __getitem__(self, step: int) -> Batch:
        return collate([AugmentedNoise()[self.n * step + item] for item in range(self.n)])


@pytest.mark.parametrize("accumulate", [2, 4])
def test_steps_in_parts_are_those_of_the_whole_batch(accumulate: int) -> None:
    whole, parts = build(4), build(4, accumulate=accumulate)
    records = []
    for trainer in (whole, parts):
        trainer.model.layer[1].p = 0.0  # which would draw otherwise for parts
        trainer.batches, record = Pairs(4), Recorder()
        trainer.hooks = [record]
        trainer.run()
        records.append(record.losses)
    assert records[1] == pytest.approx(records[0], rel=1e-5)
    for a, b in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_parts_need_the_memory_of_one_batch() -> None:
    trainer, sizes = build(1, accumulate=4), []
    trainer.model.register_forward_hook(lambda *args: sizes.append(len(args[2])))
    trainer.batches = Pairs(4)
    trainer.run()
    assert sizes == [1, 1, 1, 1]


def test_the_averaged_weights_are_the_exponential_mean_of_those_of_all_steps() -> None:
    trainer, seen = build(5, ema_decay=0.6), []

    class Copy(Recorder):
        def __call__(self, trainer: Trainer, scalars: Any) -> None:
            seen.append([p.detach().clone() for p in trainer.model.parameters()])

    trainer.hooks = [Copy()]
    trainer.run()
    expected = seen[0]
    for weights in seen[1:]:
        expected = [0.6 * a + 0.4 * b for a, b in zip(expected, weights, strict=True)]
    for a, b in zip(trainer.validated_model.parameters(), expected, strict=True):
        torch.testing.assert_close(a, b)
    assert not same(trainer.validated_model, trainer.model)
    stored = storage.weights(trainer.state_dict())
    for name, tensor in trainer.validated_model.state_dict().items():
        assert torch.equal(stored[name], tensor)


def test_without_averaging_the_network_itself_is_validated() -> None:
    trainer = build(1)
    assert trainer.validated_model is trainer.model
    assert storage.weights(trainer.state_dict()).keys() == trainer.model.state_dict().keys()


def test_bf16_runs_the_network_in_bfloat16() -> None:
    seen = []
    trainer = build(1, precision="bf16")
    trainer.model.layer[0].register_forward_hook(lambda *args: seen.append(args[2].dtype))
    trainer.run()
    assert seen == [torch.bfloat16]


@pytest.mark.gpu
def test_a_step_on_the_gpu_matches_the_cpu() -> None:
    on_cpu, on_gpu = build(1), build(1)
    on_gpu.model.cuda()
    batch = AugmentedNoise()[0]
    torch.manual_seed(1)
    cpu_loss = on_cpu.objective(on_cpu.model.eval()(batch), batch)["mse"]
    moved = {name: tensor.cuda() for name, tensor in batch.items()}
    gpu_loss = on_gpu.objective(on_gpu.model.eval()(moved), moved)["mse"]
    torch.testing.assert_close(gpu_loss.cpu(), cpu_loss, rtol=1e-4, atol=1e-5)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="1 or more, got 0, 1, 1, 100, 1"):
        settings(0)
    with pytest.raises(ValueError, match=r"trainer\.patience must be null or 1 or more"):
        settings(1, patience=3)
    for norm in (0.0, -1.0, math.nan):  # no step, a step uphill
        with pytest.raises(ValueError, match=r"trainer\.max_grad_norm must be above 0"):
            settings(1, max_grad_norm=norm)
    assert settings(1, max_grad_norm=math.inf).max_grad_norm == math.inf
    for changes in ({"validate_every": -1}, {"picture_every": -1}):
        with pytest.raises(ValueError, match="must be 0 or more"):
            settings(1, **changes)
