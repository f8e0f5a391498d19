from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from l2reg.config.build import build
from l2reg.config.presets import load_preset
from l2reg.models.heads import KINDS
from l2reg.models.unet import UNet
from l2reg.problems import InputError

Batches = Callable[..., dict[str, torch.Tensor]]
Awake = Callable[[nn.Module], nn.Module]


def small_unet(**changes: Any) -> UNet:
    options = {"encoder": [4, 6, 8], "decoder": [8], "final": [4], "head": "displacement",
               "grid": "half", **changes}  # fmt: skip
    torch.manual_seed(0)
    return UNet(**options)


@pytest.mark.parametrize("shape", [(16, 20, 24), (17, 19, 23), (9, 8, 30)])
@pytest.mark.parametrize("decoder", [[8], [8, 6]])
@pytest.mark.parametrize("head", KINDS)
def test_any_size_goes_in_and_the_same_size_comes_out(
    batch: Batches, awake: Awake, shape: tuple[int, ...], decoder: list[int], head: str
) -> None:
    prediction = awake(small_unet(decoder=decoder, head=head))(batch(*shape, pairs=2))
    assert prediction.disp.shape == (2, 3, *shape)
    assert prediction.disp.abs().max() > 0
    assert (prediction.velocity is None) is (head != "velocity")
    assert (prediction.gradient is None) is (head != "gradient")


def test_a_decoder_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="decoder must have at least one level"):
        small_unet(decoder=[8, 8, 8])
    with pytest.raises(ValueError, match="decoder must have at least one level"):
        small_unet(decoder=[])


def test_an_unknown_option_is_refused_with_a_guess() -> None:
    with pytest.raises(InputError, match="did you mean 'encoder'"):
        build({**load_preset("model", "unet"), "encodr": [1]})


def test_both_channels_of_a_scan_are_looked_at(batch: Batches, awake: Awake) -> None:
    one, other = batch(16, 20, 24), batch(16, 20, 24)
    images = {s: torch.cat([one[s], other[s].flip(2)], dim=1) for s in ("fixed", "moving")}
    images = {side: image.requires_grad_() for side, image in images.items()}
    awake(small_unet(scan_channels=2))({**one, **images}).disp.square().sum().backward()
    for image in images.values():
        assert image.grad is not None
        assert (image.grad.abs().amax(dim=(0, 2, 3, 4)) > 0).all()
