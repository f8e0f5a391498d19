from collections.abc import Callable

import pytest
import torch
from torch import nn

from l2reg.config.build import build
from l2reg.models.backbone import Backbone
from l2reg.problems import InputError

Batches = Callable[..., dict[str, torch.Tensor]]
Awake = Callable[[nn.Module], nn.Module]


@pytest.mark.parametrize(
    "network",
    [
        {"_target_": "monai.networks.nets.BasicUNet", "features": [4, 4, 6, 6, 8, 4]},
        {"_target_": "monai.networks.nets.UNet", "channels": [4, 6, 8], "strides": [2, 2]},
    ],
    ids=lambda node: node["_target_"].split(".")[-1],
)
def test_other_networks_of_monai_need_a_config_and_trust_and_no_code(
    network: dict[str, object], batch: Batches, awake: Awake
) -> None:
    node = {"spatial_dims": 3, "in_channels": 2, "out_channels": 5, **network}
    whole = {"_target_": "l2reg.models.backbone.Backbone", "network": node, "channels": 5,
             "stride": 16, "head": "velocity", "grid": "half"}  # fmt: skip
    with pytest.raises(InputError, match=r"trust=\[monai\.networks\.nets\]"):
        build(whole, "model")
    model = build(whole, "model", ["monai.networks.nets"])
    prediction = awake(model)(batch(17, 20, 33))
    assert prediction.disp.shape == prediction.velocity.shape == (1, 3, 17, 20, 33)


def test_of_several_outputs_the_first_counts(batch: Batches, awake: Awake) -> None:
    class Two(nn.Module):
        def forward(self, pair: torch.Tensor) -> list[torch.Tensor]:
            return [pair, pair[:, :1]]

    model = awake(Backbone(Two(), channels=2, stride=4, head="displacement", grid="full"))
    assert model(batch(8, 9, 10)).disp.any()
