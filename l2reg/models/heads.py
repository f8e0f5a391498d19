"""From feature maps to a field: the last layer of every network."""

import torch
from torch import nn

from l2reg.geometry.compose import integrate
from l2reg.geometry.resize import resample, resize_field
from l2reg.models.prediction import Prediction
from l2reg.shapes import Field, Image, Shape3

KINDS = ("displacement", "velocity", "gradient")
SQUARINGS = 7


class FieldHead(nn.Module):
    """A convolution to three components, zero at first: a new network starts at the identity.

    Args:
        kind: See ``as_prediction``.
        channels: Feature maps that enter.
    """

    def __init__(self, kind: str, channels: int) -> None:
        super().__init__()
        self.kind = check_kind(kind)
        self.conv = nn.Conv3d(channels, 3, kernel_size=3, padding=1)
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, features: Image, shape: Shape3) -> Prediction:
        """Return the field on a grid of ``shape``; ``features`` may live on a coarser one.

        Runs in float32 whatever autocast does: fields need the digits.
        """
        with torch.autocast(features.device.type, enabled=False):
            return resize_prediction(as_prediction(self.conv(features.float()), self.kind), shape)


def as_prediction(components: Field, kind: str) -> Prediction:
    """Turn three unbounded components per voxel into a field; zero becomes the identity.

    Args:
        components: What a network says.
        kind: ``displacement`` takes them as they are; ``velocity`` as a stationary velocity and
            integrates it, so that the deformation has an inverse (Dalca et al. 2019); ``gradient``
            as the logits of ``integrate_gradient``'s argument (Estienne et al. 2020).
    """
    if kind == "velocity":
        return Prediction(integrate(components, squarings=SQUARINGS), velocity=components)
    if kind == "gradient":
        gradient = torch.sigmoid(components)
        return Prediction(integrate_gradient(gradient), gradient=gradient)
    return Prediction(components)


def integrate_gradient(gradient: Field) -> Field:
    """Return the field whose component c grows by ``2 * gradient[c] - 1`` per voxel of axis c.

    0.5 everywhere is the identity. Values in (0, 1) make every step along an axis go forward, by
    less than two voxels: nothing folds along an axis, though shears still may. The sum starts at
    the near corner, so a shift has to be built up from there.
    """
    steps = 2 * gradient - 1
    return torch.stack([steps[:, c].cumsum(dim=1 + c) for c in range(3)], dim=1)


def resize_prediction(prediction: Prediction, shape: Shape3) -> Prediction:
    """Return ``prediction`` on a grid of ``shape``."""
    velocity, gradient = prediction.velocity, prediction.gradient
    return Prediction(
        resize_field(prediction.disp, shape),
        velocity=None if velocity is None else resize_field(velocity, shape),
        gradient=None if gradient is None else resample(gradient, shape),
    )


def check_kind(kind: str) -> str:
    """Return ``kind`` if it is one, else raise ``ValueError``."""
    if kind not in KINDS:
        raise ValueError(f"head must be one of {', '.join(KINDS)}, got {kind!r}")
    return kind
