"""Descriptors on a GPU: views are made there, and the network is that of the CPU."""

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from l2reg.batch import to_device
from l2reg.config.build import build
from l2reg.config.presets import config_dir, load_preset
from l2reg.models.descriptors import DescriptorNetwork
from l2reg.phantom.views import SyntheticViews
from l2reg.runtime import autocast
from l2reg.training.setup import prepare_training
from l2reg.training.synthetic_task import RetrievalValidation

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("small_tissues")]
CUDA = torch.device("cuda")
VIEWS = SyntheticViews(
    size=33, n_points=50, phantom_share=0.5, same_scan_share=0.5, n_patients=3, patient_seed=0,
    shift=1.0, elastic=1.0, affine=0.05,
)  # fmt: skip


def test_views_are_made_on_the_gpu_and_a_step_always_gives_the_same() -> None:
    batches = VIEWS.batches(items=range(4), seed=0, device=CUDA)
    first, again = batches[2], batches[2]
    for name, tensor in first.items():
        assert tensor.is_cuda  # type: ignore[attr-defined]
        assert torch.equal(tensor, again[name])  # type: ignore[literal-required,arg-type]
    assert float(first["fixed"].std()) > 0.02


def test_descriptors_are_those_of_the_cpu() -> None:
    torch.manual_seed(0)
    network = DescriptorNetwork([8, 16, 16], channels=6, levels=2)
    batch = VIEWS.make(np.array([True, False]), np.random.default_rng(0), torch.device("cpu"))
    expected = network.describe(batch["fixed"])
    found = network.to(CUDA).describe(to_device(batch, CUDA)["fixed"])
    torch.testing.assert_close(found.cpu(), expected, atol=2e-3, rtol=0)


def test_a_step_in_bf16_and_a_validation_run_on_the_gpu() -> None:
    config = load_preset("experiment", "descriptors")
    model, objective = build(config["model"]).to(CUDA), build(config["loss"])
    data = build({**config["data"], "n_val": 2, "n_val_points": 9})
    batch = VIEWS.batches(items=range(2), seed=0, device=CUDA)[0]
    with autocast(CUDA, "bf16"):
        views = model(batch)
    loss = torch.stack(list(objective(views, batch).values())).sum()
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())
    scores, _ = RetrievalValidation(model, data, CUDA, "bf16").score()
    assert 0 <= scores["val/retrieval"] <= 1


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_descriptors_are_trained_and_validated_on_the_gpu(precision: str) -> None:
    options = ["experiment=descriptors", "device=cuda", "model.widths=[4,4,4]", "model.levels=2",
               "model.channels=5", "data.views.size=17", "data.views.n_points=24", "data.radius=2",
               "data.views.n_patients=2", "data.n_val=2", "data.n_val_points=8",
               "loss.n_negatives=4", "trainer.max_steps=2", "trainer.validate_every=1",
               "trainer.picture_every=2", f"trainer.precision={precision}"]  # fmt: skip
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose("train", overrides=[*options, "run_dir=run"])
    trainer = prepare_training(OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]
    before = [parameter.clone() for parameter in trainer.model.parameters()]
    trainer.run()
    assert trainer.finished
    for parameter, old in zip(trainer.model.parameters(), before, strict=True):
        assert parameter.is_cuda
        assert torch.isfinite(parameter).all()
        assert not torch.equal(parameter, old)
