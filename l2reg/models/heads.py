"""From feature maps to a field: the last layer of every network."""

import torch
from torch import nn

from l2reg.geometry.compose import integrate
from l2reg.geometry.resize import resize_field
from l2reg.models.prediction import Prediction
from l2reg.shapes import Image, Shape3

SQUARINGS = 7


class FieldHead(nn.Module):
    """A convolution to three components, zero at first: a new network starts at the identity.

    Args:
        kind: ``displacement`` takes the components as they are; ``velocity`` as a stationary
            velocity and integrates it, so that the deformation has an inverse (Dalca et al. 2019).
        channels: Feature maps that enter.
    """

    def __init__(self, kind: str, channels: int) -> None:
        super().__init__()
        if kind not in ("displacement", "velocity"):
            raise ValueError(f"head must be displacement or velocity, got {kind!r}")
        self.kind = kind
        self.conv = nn.Conv3d(channels, 3, kernel_size=3, padding=1)
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, features: Image, shape: Shape3) -> Prediction:
        """Return the field on a grid of ``shape``; ``features`` may live on a coarser one.

        Runs in float32 whatever autocast does: fields need the digits.
        """
        with torch.autocast(features.device.type, enabled=False):
            field = self.conv(features.float())
            if self.kind == "velocity":
                disp = integrate(field, squarings=SQUARINGS)
                return Prediction(resize_field(disp, shape), resize_field(field, shape))
            return Prediction(resize_field(field, shape))
