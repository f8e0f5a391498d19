"""Every grid of a network has the corners of the working grid.

The receptive field of a voxel of a field is therefore centred on that voxel, or off by the same
distance everywhere. Otherwise the field of one end of a scan would be that of another place.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from l2reg.geometry.resize import resample
from l2reg.models.blocks import halvable_shape
from l2reg.models.unet import UNet

Networks = Callable[..., nn.Module]

LENGTH = 192


class Same(nn.Module):
    """Stands in for a normalisation, whose output depends on the whole volume."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps


@pytest.fixture(autouse=True)
def no_functional_normalisation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn.functional, "instance_norm", lambda maps: maps)


def averaging(model: nn.Module) -> nn.Module:
    """Give every convolution equal positive weights, and a field of next to nothing."""
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.InstanceNorm3d | nn.GroupNorm):
                setattr(module, name, Same())
    for parameter in model.parameters():
        scale = 1e-4 if len(parameter) == 3 else 1.0
        nn.init.constant_(parameter, scale / parameter[0].numel() if parameter.dim() == 5 else 0)
    return model


def offsets(
    model: Callable[[dict[str, torch.Tensor]], Any],
    field: Callable[[Any], torch.Tensor],
    n: int = 7,
) -> list[float]:
    """Return centre of the receptive field minus position, for voxels of the middle third.

    Args:
        model: Network, or a part of it.
        field: What is taken of its prediction, values with the corners of the working grid.
        n: Number of voxels.
    """
    shape = (LENGTH, 9, 8)
    fixed = torch.ones(1, 1, *shape, requires_grad=True)
    moving = 2 * torch.ones_like(fixed)
    disp = field(model({"fixed": fixed, "moving": moving.detach()}))
    places = torch.arange(float(LENGTH))
    size = disp.shape[2]
    found = []
    for voxel in torch.linspace(size / 3, 2 * size / 3, n).round().long().tolist():
        value = disp[0, 0, voxel, disp.shape[3] // 2, disp.shape[4] // 2]
        (gradient,) = torch.autograd.grad(value, fixed, retain_graph=True)
        along = gradient.sum(dim=(0, 1, 3, 4))
        centre = float((along * places).sum() / along.sum())
        found.append(centre - voxel * (LENGTH - 1) / (size - 1))
    return found


@pytest.mark.parametrize(
    "name",
    [
        "unet",
        "pyramid",
        pytest.param("pyramid_gunnarsson", marks=pytest.mark.slow),
        "siamese_unet",
        "lapirn",
        "clapirn",
        "sitreg",
        "monai_segresnet",
    ],
)
def test_the_field_of_a_voxel_comes_from_around_that_voxel(name: str, network: Networks) -> None:
    head = [] if name == "sitreg" else ["model.head=displacement"]
    model = averaging(network(name, *head))
    found = offsets(model, lambda prediction: prediction.disp, n=13)
    assert max(found) - min(found) < 0.1
    assert abs(found[0]) < 0.1 or name == "monai_segresnet"  # which is off by the same everywhere


@pytest.mark.parametrize("decoder", [[8], [8, 6], [8, 6, 6]])
def test_so_does_a_field_that_is_estimated_on_a_coarser_grid(decoder: list[int]) -> None:
    network = UNet([4, 6, 8, 8], decoder, final=[4], head="displacement", grid="half")
    found = offsets(averaging(network), lambda prediction: prediction.disp)
    assert max(map(abs, found)) < 0.1


@pytest.mark.parametrize("name", ["siamese_unet", "pyramid"])
def test_so_do_the_fields_of_coarser_levels_in_training(name: str, network: Networks) -> None:
    small = {"siamese_unet": ["model.encoder=[4,6,8]", "model.convs_per_level=[1,2]"]}.get(name, [])
    model = averaging(network(name, "model.head=displacement", *small)).train()
    for level in (0, 1):
        found = offsets(model, lambda prediction, at=level: prediction.levels[at].disp)
        assert max(map(abs, found)) < 0.1


@pytest.mark.parametrize("level", [0, 3])
def test_so_do_the_features_that_vfa_matches(level: int, network: Networks) -> None:
    """Its field has no gradient where all features are equal."""
    extractor = averaging(network("vfa")).extractor

    def extract(batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        shape = halvable_shape(batch["fixed"].shape[2:], extractor.halvings)
        return extractor(resample(batch["fixed"], shape))

    assert max(map(abs, offsets(extract, lambda maps: maps[level]))) < 0.1
