from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from l2reg.config import build, read_node
from l2reg.models.unet import UNet
from l2reg.problems import InputError


def small_unet(**changes: Any) -> UNet:
    options = {"encoder": [4, 6, 8], "decoder": [8], "final": [4], "head": "displacement",
               "grid": "half", **changes}  # fmt: skip
    torch.manual_seed(0)
    return UNet(**options)


def awake(model: UNet) -> UNet:
    """A network whose head no longer returns zeros."""
    nn.init.normal_(model.head.conv.weight, std=0.1)
    return model


@pytest.fixture
def batch(rng: torch.Generator) -> Callable[..., dict[str, torch.Tensor]]:
    def made(*shape: int, pairs: int = 1) -> dict[str, torch.Tensor]:
        return {name: torch.rand(pairs, 1, *shape, generator=rng) for name in ("fixed", "moving")}

    return made


@pytest.mark.parametrize("head", ["displacement", "velocity"])
@pytest.mark.parametrize("name", ["unet"])
def test_a_new_network_is_the_identity(
    batch: Callable[..., dict[str, torch.Tensor]], name: str, head: str
) -> None:
    model = build({**read_node("model", name), "head": head})
    assert (model(batch(20, 24, 28)).disp == 0).all()


@pytest.mark.parametrize("shape", [(16, 20, 24), (17, 19, 23), (9, 8, 30)])
@pytest.mark.parametrize("decoder", [[8], [8, 6]])
@pytest.mark.parametrize("head", ["displacement", "velocity"])
def test_any_size_goes_in_and_the_same_size_comes_out(
    batch: Callable[..., dict[str, torch.Tensor]], shape: tuple[int, ...], decoder: list[int],
    head: str,
) -> None:  # fmt: skip
    prediction = awake(small_unet(decoder=decoder, head=head))(batch(*shape, pairs=2))
    assert prediction.disp.shape == (2, 3, *shape)
    assert prediction.disp.abs().max() > 0
    assert (prediction.velocity is None) is (head == "displacement")


def test_gradients_reach_every_weight(batch: Callable[..., dict[str, torch.Tensor]]) -> None:
    model = awake(small_unet(decoder=[8, 6], head="velocity"))
    model(batch(12, 13, 14)).disp.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_bf16_autocast_stays_close_and_returns_float32(
    batch: Callable[..., dict[str, torch.Tensor]],
) -> None:
    model, pair = awake(small_unet()), batch(16, 20, 24)
    exact = model(pair).disp
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = model(pair).disp
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().max() < 0.05 * exact.abs().max() + 0.01


def test_a_network_trained_at_one_size_loads_and_runs_at_another(
    batch: Callable[..., dict[str, torch.Tensor]],
) -> None:
    trained = awake(small_unet())
    trained(batch(16, 16, 16))
    other = small_unet()
    other.load_state_dict(trained.state_dict())
    pair = batch(20, 16, 12)
    assert torch.equal(other(pair).disp, trained(pair).disp)


def test_the_order_of_fixed_and_moving_matters(
    batch: Callable[..., dict[str, torch.Tensor]],
) -> None:
    model, pair = awake(small_unet()), batch(12, 14, 16)
    swapped = {"fixed": pair["moving"], "moving": pair["fixed"]}
    assert not torch.allclose(model(pair).disp, model(swapped).disp)


def test_the_default_network_has_the_size_that_its_config_says() -> None:
    model = build(read_node("model", "unet"))
    assert sum(p.numel() for p in model.parameters()) == 596_979


def test_a_decoder_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="decoder must have at least one level"):
        small_unet(decoder=[8, 8, 8])
    with pytest.raises(ValueError, match="decoder must have at least one level"):
        small_unet(decoder=[])


def test_an_unknown_option_is_refused_with_a_guess() -> None:
    with pytest.raises(InputError, match="did you mean 'encoder'"):
        build({**read_node("model", "unet"), "encodr": [1]})
