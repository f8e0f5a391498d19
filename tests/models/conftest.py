from collections.abc import Callable
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import nn

from l2reg.config.build import build
from l2reg.config.presets import config_dir

Batches = Callable[..., dict[str, torch.Tensor]]


@pytest.fixture
def batch(rng: torch.Generator) -> Batches:
    """Make a batch of random images of the given size."""

    def make(*shape: int, pairs: int = 1) -> dict[str, torch.Tensor]:
        return {name: torch.rand(pairs, 1, *shape, generator=rng) for name in ("fixed", "moving")}

    return make


@pytest.fixture
def network() -> Callable[..., nn.Module]:
    """Build a network as ``model=NAME model.KEY=VALUE`` would."""

    def build_network(name: str, *overrides: str) -> nn.Module:
        torch.manual_seed(0)
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            config = compose("train", overrides=[f"model={name}", *overrides, "run_dir=unused"])
        node: Any = OmegaConf.to_container(config.model, resolve=True)
        model: nn.Module = build(node)
        return model.eval()

    return build_network


@pytest.fixture
def awake() -> Callable[[nn.Module], nn.Module]:
    """Fill the weights that are zero at first, so that a new network predicts some motion."""

    def fill(model: nn.Module) -> nn.Module:
        for parameter in model.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.01)
        return model

    return fill
