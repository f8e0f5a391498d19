"""Field heads: the last layer of a network, from feature maps to a displacement field."""

from functools import partial

import torch
from torch import nn

from l2reg.geometry.compose import integrate
from l2reg.geometry.resize import resample, resize_field
from l2reg.models.prediction import Prediction
from l2reg.shapes import Field, Image, Shape3

KINDS = ("displacement", "velocity", "gradient")  # of heads, see as_prediction
SQUARINGS = 7  # of velocities, see geometry.compose.integrate for the error


class FieldHead(nn.Module):
    """Convolution to three components per voxel, from which a field is made.

    Its weights are zero at first, so that a new network predicts the identity.

    Args:
        kind: Kind of the components, see ``as_prediction``.
        channels: Number of input channels.
    """

    def __init__(self, kind: str, channels: int) -> None:
        super().__init__()
        self.kind = check_kind(kind)
        self.conv = nn.Conv3d(channels, 3, kernel_size=3, padding=1)
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, features: Image, shape: Shape3) -> Prediction:
        """Return the field on a grid of ``shape``; ``features`` may lie on a coarser grid.

        It is computed in float32 even under autocast, as displacements need that precision.
        """
        with torch.autocast(features.device.type, enabled=False):
            return resize_prediction(as_prediction(self.conv(features.float()), self.kind), shape)


def as_prediction(components: Field, kind: str) -> Prediction:
    """Convert three unbounded components per voxel to a field; zeros give the identity.

    Args:
        components: Output of a network.
        kind: Meaning of the components. ``displacement``: the field itself, in voxels.
            ``velocity``: a stationary velocity in voxels, which is integrated so that the
            deformation has an inverse (Dalca et al. 2019). ``gradient``: logits of the argument of
            ``integrate_gradient`` (Estienne et al. 2020).
    """
    if kind == "velocity":
        return Prediction(integrate(components, squarings=SQUARINGS), velocity=components)
    if kind == "gradient":
        gradient = torch.sigmoid(components)
        return Prediction(integrate_gradient(gradient), gradient=gradient)
    return Prediction(components)


def integrate_gradient(gradient: Field) -> Field:
    """Return the field whose component c grows by ``2 * gradient[c] - 1`` per voxel of axis c.

    0.5 everywhere is the identity. Values in (0, 1) keep neighbours along an axis in order and less
    than two voxels apart: nothing folds along an axis, but shears still can fold. Sums start at the
    first voxel of each axis, so that a translation has to build up from there.
    """
    steps = 2 * gradient - 1
    return torch.stack([steps[:, c].cumsum(dim=1 + c) for c in range(3)], dim=1)


def resize_prediction(
    prediction: Prediction, shape: Shape3, *, align_corners: bool = True
) -> Prediction:
    """Return the field of ``prediction``, and its velocity or gradient, on a grid of ``shape``.

    Args:
        prediction: Prediction on another grid.
        shape: Shape of the new grid.
        align_corners: See ``geometry.resize.resample``.
    """
    velocity, gradient = prediction.velocity, prediction.gradient
    resize = partial(resize_field, shape=shape, align_corners=align_corners)
    return Prediction(
        resize(prediction.disp),
        velocity=None if velocity is None else resize(velocity),
        gradient=None
        if gradient is None
        else resample(gradient, shape, align_corners=align_corners),
    )


def check_kind(kind: str) -> str:
    """Return ``kind`` if it is one of ``KINDS``, else raise ``ValueError``."""
    if kind not in KINDS:
        raise ValueError(f"head must be one of {', '.join(KINDS)}, got {kind!r}")
    return kind
