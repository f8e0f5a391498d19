"""Training on a GPU: resumption, checkpoints that a CPU reads, and how often the host waits."""

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from l2reg.batch import Batch, to_device
from l2reg.inference.predict_split import predict_split, prepare_prediction
from l2reg.problems import InputError
from l2reg.training.prefetch import prefetch
from l2reg.training.setup import prepare_training
from l2reg.training.step_cost import measure_step

pytestmark = pytest.mark.gpu

Composed = Callable[..., dict[str, Any]]
CUDA = torch.device("cuda")


@pytest.fixture
def gpu_run(composed: Composed) -> Composed:
    def made(model: str, *overrides: str, flavour: str = "lung") -> dict[str, Any]:
        grid = ["model.grid=[16,12,17]"] if model == "pyramid_gunnarsson" else []
        few = ["trainer.max_steps=4", "trainer.validate_every=2", "trainer.picture_every=4"]
        given = [f"model={model}", "device=cuda", *few, *grid, *overrides]
        return composed("train", *given, flavour=flavour)

    return made


@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
@pytest.mark.parametrize(
    "model",
    ["unet", "pyramid", "pyramid_gunnarsson", "siamese_unet", "lapirn", "clapirn", "vfa",
     "sitreg", "monai_segresnet"],
)  # fmt: skip
def test_every_network_trains_validates_and_draws(
    model: str, precision: str, gpu_run: Composed
) -> None:
    trainer = prepare_training(gpu_run(model, f"trainer.precision={precision}"))
    assert next(trainer.model.parameters()).is_cuda
    before = [p.clone() for p in trainer.model.parameters()]
    trainer.run()
    assert trainer.finished
    after = trainer.model.parameters()
    assert not all(torch.equal(a, b) for a, b in zip(after, before, strict=True))
    assert Path("run/best.pt").is_file()


@pytest.mark.parametrize("model", ["unet", "pyramid", "clapirn", "vfa", "sitreg"])
def test_activation_checkpointing_saves_memory_that_is_measured(
    model: str, gpu_run: Composed
) -> None:
    options = ["trainer.precision=float32", "trainer.batch_size=2", "overwrite=true"]
    costs = [
        measure_step(prepare_training(gpu_run(model, *options, *more)))
        for more in ([], ["trainer.activation_checkpointing=true"])
    ]
    assert costs[1].memory_bytes < costs[0].memory_bytes


def test_too_little_memory_is_told_with_the_options(
    gpu_run: Composed, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = prepare_training(gpu_run("unet"))
    more = torch.cuda.get_device_properties(CUDA).total_memory  # than is free

    def fill(_: Batch) -> dict[str, float]:
        return {"loss": float(torch.empty(2 * more, dtype=torch.uint8, device=CUDA)[0])}

    monkeypatch.setattr(trainer, "train_step", fill)
    with pytest.raises(InputError, match=r"(?s)does not fit the memory.*activation_checkpointing"):
        trainer.run()


@pytest.mark.parametrize("flavour", ["abdomen", "oasis"])
def test_labels_and_both_directions_are_trained_on(flavour: str, gpu_run: Composed) -> None:
    given = ["trainer.symmetric=true", "loss.weights.dice=1", "trainer.batch_size=2"]
    trainer = prepare_training(gpu_run("unet", *given, flavour=flavour))
    trainer.run()
    assert trainer.finished


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(gpu_run: Composed) -> None:
    """Within 1e-4: gradients of interpolation are sums in an order that CUDA does not fix."""
    whole = prepare_training(gpu_run("unet"))
    whole.run()
    weights = {n: p.cpu() for n, p in whole.model.state_dict().items()}
    part = prepare_training(gpu_run("unet", "overwrite=true"))
    part.hooks = [*part.hooks, StopAt(2)]
    part.run()
    rest = prepare_training(gpu_run("unet", "resume=true"))
    assert rest.step == 2
    rest.run()
    for name, tensor in rest.model.state_dict().items():
        torch.testing.assert_close(tensor.cpu(), weights[name], rtol=1e-3, atol=1e-4)


class StopAt:
    def __init__(self, step: int) -> None:
        self.step = step

    def __call__(self, trainer: Any, scalars: Any) -> None:
        del scalars
        trainer.stop_requested = trainer.step == self.step

    def close(self) -> None:
        pass


def test_a_cpu_predicts_with_a_checkpoint_of_the_gpu(gpu_run: Composed, composed: Composed) -> None:
    prepare_training(gpu_run("unet")).run()
    scores = {}
    for device in ("cpu", "cuda"):
        given = ["ckpt=run", "task=phantom", f"device={device}", f"out={device}"]
        config = composed("predict", *given)
        job = prepare_prediction(config, [text.split("=")[0] for text in given])
        result = predict_split(job.predictor, job.pairs, job.out, [], job.rules)
        scores[device] = result.scores["submission"].pairs[0].tre_mm
    assert scores["cuda"] == pytest.approx(scores["cpu"], abs=0.01)


def test_a_step_without_labels_waits_for_the_gpu_once(gpu_run: Composed) -> None:
    trainer = prepare_training(gpu_run("unet", "loss.weights.dice=0"))
    batch = trainer.batches[0]
    trainer.train_step(batch)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as waits:
            warnings.simplefilter("always")
            trainer.train_step(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(waits) == 1, [f"{w.filename}:{w.lineno}" for w in waits]


def test_the_host_does_not_wait_for_the_copy_of_a_pinned_batch() -> None:
    batch: Batch = {"fixed": torch.rand(2, 1, 40, 48, 56), "fixed_points": torch.rand(2, 9, 3)}
    torch.cuda.set_sync_debug_mode("error")
    try:
        copied = to_device(batch, CUDA, pinned=True)
        with pytest.raises(RuntimeError, match="synchroniz"):
            to_device(batch, CUDA)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for name in ("fixed", "fixed_points"):
        assert torch.equal(copied[name].cpu(), batch[name])  # type: ignore[literal-required]


def test_prefetched_batches_are_those_that_are_read_one_by_one(gpu_run: Composed) -> None:
    batches = prepare_training(gpu_run("unet", flavour="oasis")).batches
    alone = [batches[step] for step in range(8)]
    for ahead, read in zip(prefetch(batches, range(8), CUDA), alone, strict=True):
        for name, tensor in ahead.items():
            torch.testing.assert_close(tensor, read[name], rtol=0, atol=0)  # type: ignore[literal-required]


def test_augmentation_on_the_gpu_is_that_of_the_cpu(gpu_run: Composed) -> None:
    """Within rounding; the noise is left out, as generators differ."""
    batches = prepare_training(gpu_run("unet", "data.augment.elastic_mm=3")).batches
    sample: Batch = batches.read(batches.draw(0, 0))  # type: ignore[attr-defined]
    augment = batches.augment  # type: ignore[attr-defined]
    on_cpu = augment(copy.copy(sample), np.random.default_rng(1))
    on_gpu = augment(to_device(sample, CUDA), np.random.default_rng(1))
    assert (on_gpu["fixed"].cpu() - on_cpu["fixed"]).abs().max() < 1e-3
    assert (on_gpu["moving"].cpu() - on_cpu["moving"]).abs().max() < 1e-3
    torch.testing.assert_close(
        on_gpu["fixed_points"].cpu(), on_cpu["fixed_points"], atol=0.01, rtol=0
    )
