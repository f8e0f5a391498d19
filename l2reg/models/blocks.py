"""Building blocks of several networks: padding, cropping, halved grids and convolutions."""

from collections.abc import Sequence
from dataclasses import replace

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from l2reg.models.prediction import Prediction
from l2reg.shapes import Image, Shape3


def pad_to_multiple(image: Image, multiple: int) -> Float[Tensor, "b c padded_i padded_j padded_k"]:
    """Return ``image`` padded at the end of each axis to the next multiple of ``multiple``.

    The new voxels repeat the edge voxels, so that the image has no edge that is not anatomy.
    """
    padding: list[int] = []
    for size in reversed(image.shape[2:]):  # F.pad counts axes from the last
        padding += [0, -size % multiple]
    return F.pad(image, padding, mode="replicate") if any(padding) else image


def crop(volume: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the first ``shape`` voxels of ``volume``: undoes ``pad_to_multiple``."""
    i, j, k = shape
    return volume[..., :i, :j, :k]


def crop_prediction(prediction: Prediction, shape: Sequence[int]) -> Prediction:
    """Return ``prediction`` cropped to its first ``shape`` voxels; coarser levels stay whole."""
    velocity, gradient = prediction.velocity, prediction.gradient
    return replace(
        prediction,
        disp=crop(prediction.disp, shape),
        velocity=None if velocity is None else crop(velocity, shape),
        gradient=None if gradient is None else crop(gradient, shape),
    )


def halve_shape(shape: Sequence[int], times: int) -> Shape3:
    """Return ``shape`` halved ``times`` times, rounded up, with at least 2 voxels per axis."""
    i, j, k = (max(2, -(-size // 2**times)) for size in shape)
    return (i, j, k)


class ConvBlock(nn.Sequential):
    """3x3x3 convolution followed by a LeakyReLU of slope 0.2, as in VoxelMorph.

    Args:
        channels_in: Number of input channels.
        channels_out: Number of output channels.
        stride: Distance of the output voxels, in input voxels; 2 halves the grid.
        dilation: Distance of the kernel's taps, in voxels; it does not change the grid.
    """

    def __init__(
        self, channels_in: int, channels_out: int, stride: int = 1, dilation: int = 1
    ) -> None:
        super().__init__(
            nn.Conv3d(channels_in, channels_out, 3, stride, padding=dilation, dilation=dilation),
            nn.LeakyReLU(0.2),
        )
