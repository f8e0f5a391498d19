"""Parts that several networks share."""

from collections.abc import Sequence
from dataclasses import replace

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from l2reg.models.prediction import Prediction
from l2reg.shapes import Image, Shape3


def pad_to_multiple(image: Image, multiple: int) -> Float[Tensor, "b c padded_i padded_j padded_k"]:
    """Return ``image`` grown at the far end of each axis until ``multiple`` divides its size.

    The new voxels repeat the edge, so that no border appears that is not in the anatomy.
    """
    padding: list[int] = []
    for size in reversed(image.shape[2:]):  # F.pad counts axes from the last
        padding += [0, -size % multiple]
    return F.pad(image, padding, mode="replicate") if any(padding) else image


def crop(volume: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the near corner of ``volume`` of size ``shape``: undoes ``pad_to_multiple``."""
    i, j, k = shape
    return volume[..., :i, :j, :k]


def crop_prediction(prediction: Prediction, shape: Sequence[int]) -> Prediction:
    """Return ``prediction`` on the near corner of its grid; its coarser levels stay as they are."""
    velocity, gradient = prediction.velocity, prediction.gradient
    return replace(
        prediction,
        disp=crop(prediction.disp, shape),
        velocity=None if velocity is None else crop(velocity, shape),
        gradient=None if gradient is None else crop(gradient, shape),
    )


def halve_shape(shape: Sequence[int], times: int) -> Shape3:
    """Return the shape of a grid whose voxels are ``2 ** times`` as long; never below 2 voxels."""
    i, j, k = (max(2, -(-size // 2**times)) for size in shape)
    return (i, j, k)


class ConvBlock(nn.Sequential):
    """3x3x3 convolution and LeakyReLU 0.2, as in VoxelMorph.

    Args:
        channels_in: Feature maps that enter.
        channels_out: Feature maps that leave.
        stride: 2 halves the grid.
        dilation: Voxels between the taps; the grid stays.
    """

    def __init__(
        self, channels_in: int, channels_out: int, stride: int = 1, dilation: int = 1
    ) -> None:
        super().__init__(
            nn.Conv3d(channels_in, channels_out, 3, stride, padding=dilation, dilation=dilation),
            nn.LeakyReLU(0.2),
        )
