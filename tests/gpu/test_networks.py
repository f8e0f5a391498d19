"""Every network and loss computes on a GPU what it computes on a CPU."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor, nn

from l2reg.batch import Batch, both_directions, to_device
from l2reg.config.build import build
from l2reg.config.presets import config_dir, preset_names
from l2reg.models.activation_checkpointing import recompute_activations
from l2reg.models.prediction import Prediction

pytestmark = pytest.mark.gpu

NETWORKS = ["unet", "pyramid", "pyramid_gunnarsson", "siamese_unet", "lapirn", "clapirn", "vfa",
            "sitreg", "monai_segresnet"]  # fmt: skip
WEIGHTS = ["loss.weights.dice=1", "loss.weights.keypoints=0.1"]
ALL_WEIGHTS = [*WEIGHTS, *(f"loss.weights.{name}=1" for name in (
    "inverse_consistency", "gradient_inverse_consistency", "bending", "total_variation", "folding")
)]  # fmt: skip
CUDA = torch.device("cuda")
Pairs = Callable[..., Batch]


def node(key: str, *overrides: str) -> Any:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose("train", overrides=[*overrides, "run_dir=unused"])
    return OmegaConf.to_container(config[key], resolve=True)


def network(name: str) -> nn.Module:
    """A network whose field is not zero; in evaluation mode, as GPUs draw other dropout."""
    torch.manual_seed(0)
    model: nn.Module = build(node("model", f"model={name}"))
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.01)
    return model.eval()


def step(model: nn.Module, objective: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    prediction: Prediction = model(batch)
    terms = objective(prediction, batch)
    torch.stack(list(terms.values())).sum().backward()
    return prediction.disp.detach().cpu(), {name: term.item() for name, term in terms.items()}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_has_the_field_losses_and_gradients_of_the_cpu(name: str, pairs: Pairs) -> None:
    """Fields within 1e-3 of their size, losses 1e-4, gradients 1 % (sums in another order)."""
    on_cpu, batch = network(name), pairs()
    on_gpu = copy.deepcopy(on_cpu).to(CUDA)
    objective: nn.Module = build(node("loss", *WEIGHTS))
    disp, terms = step(on_cpu, objective, batch)
    gpu_disp, gpu_terms = step(on_gpu, objective, to_device(batch, CUDA))
    assert disp.abs().max() > 0.01
    assert (gpu_disp - disp).abs().max() < 1e-3 * disp.abs().max()
    assert gpu_terms == pytest.approx(terms, rel=1e-4, abs=1e-6)
    gradient, gpu_gradient = gradient_of(on_cpu), gradient_of(on_gpu)
    assert (gpu_gradient - gradient).norm() < 0.01 * gradient.norm()


def gradient_of(model: nn.Module) -> Tensor:
    return torch.cat([p.grad.cpu().flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_less_exact_precisions_stay_close(name: str, precision: str, pairs: Pairs) -> None:
    model, batch = network(name).to(CUDA), to_device(pairs(), CUDA)
    with torch.no_grad():
        exact = model(batch).disp
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=precision == "bf16"):
            rough = model(batch).disp
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().mean() < 0.1 * exact.abs().mean()


@pytest.mark.parametrize("name", ["unet", "pyramid", "vfa"])
def test_gradients_of_recomputed_activations_are_those_of_kept_ones(
    name: str, pairs: Pairs
) -> None:
    kept = network(name).to(CUDA).train()
    recomputed = copy.deepcopy(kept)
    recompute_activations(recomputed)
    objective, batch = build(node("loss", *WEIGHTS)), to_device(pairs(), CUDA)
    for model in (kept, recomputed):
        step(model, objective, batch)
    gradient = gradient_of(kept)
    assert (gradient_of(recomputed) - gradient).norm() < 0.01 * gradient.norm()


@pytest.mark.parametrize("loss", preset_names("loss"))
def test_every_loss_has_the_value_and_gradient_of_the_cpu(
    loss: str, pairs: Pairs, rng: torch.Generator
) -> None:
    """But for a few voxels that interpolate at a face of the grid, where gradients jump."""
    objective: nn.Module = build(node("loss", f"loss={loss}", *ALL_WEIGHTS))
    batch = both_directions(pairs())
    coarse = torch.randn(4, 3, 5, 6, 7, generator=rng)
    shape = batch["fixed"].shape[2:]
    disp = torch.nn.functional.interpolate(coarse, size=shape, mode="trilinear")
    found = []
    for device in (torch.device("cpu"), CUDA):
        field = disp.to(device, copy=True).requires_grad_()
        terms = objective(Prediction(field), to_device(batch, device))
        torch.stack(list(terms.values())).sum().backward()
        assert field.grad is not None
        values = {name: term.item() for name, term in terms.items()}
        found.append((values, field.grad.cpu()))
    (terms, gradient), (gpu_terms, gpu_gradient) = found
    assert gpu_terms == pytest.approx(terms, rel=1e-4, abs=1e-6)
    size = gradient.square().mean().sqrt()
    differs = (gpu_gradient - gradient).abs() > 0.01 * size
    assert differs.float().mean() < 1e-3
