"""Building blocks of several networks: padding, cropping, halved grids and convolutions.

The grids of all levels of a network have the same corners, as everywhere in l2reg
(``geometry/resize.py``): one voxel of a level spans exactly two of the next finer one, and its
receptive field is centred on its own position.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from l2reg.models.prediction import Prediction
from l2reg.shapes import Image, Maps, Shape3


def pad_to_multiple(image: Image, multiple: int) -> Float[Tensor, "b c padded_i padded_j padded_k"]:
    """Return ``image`` padded at the end of each axis to the next multiple of ``multiple``.

    The new voxels repeat the edge voxels, so that the image has no edge that is not anatomy.
    """
    i, j, k = (size + -size % multiple for size in image.shape[2:])
    return _pad(image, (i, j, k))


def _pad(image: Image, shape: Shape3) -> Float[Tensor, "b c padded_i padded_j padded_k"]:
    padding: list[int] = []
    for old, new in zip(reversed(image.shape[2:]), reversed(shape), strict=True):
        padding += [0, new - old]  # F.pad counts axes from the last
    return F.pad(image, padding, mode="replicate") if any(padding) else image


def halvable_shape(shape: Sequence[int], halvings: int) -> Shape3:
    """Return the smallest grid, at least ``shape``, whose halved grids have the same corners.

    Its sizes are one more than a multiple of ``2 ** halvings``, so that every second voxel, from
    the first to the last, is a voxel of the halved grid.
    """
    step = 2**halvings
    i, j, k = (1 + step * max(1, -(-(size - 1) // step)) for size in shape)
    return (i, j, k)


def pad_to_halvable(image: Image, halvings: int) -> Float[Tensor, "b c padded_i padded_j padded_k"]:
    """Return ``image`` padded at the end of each axis to its ``halvable_shape``.

    The new voxels repeat the edge voxels; the others keep their positions.
    """
    return _pad(image, halvable_shape(image.shape[2:], halvings))


def crop(volume: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the first ``shape`` voxels of ``volume``: undoes the padding."""
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
        stride: Distance of the output voxels, in input voxels; 2 halves the grid, which keeps its
            corners if its sizes are odd.
        dilation: Distance of the kernel's taps, in voxels; it does not change the grid.
    """

    def __init__(
        self, channels_in: int, channels_out: int, stride: int = 1, dilation: int = 1
    ) -> None:
        super().__init__(
            nn.Conv3d(channels_in, channels_out, 3, stride, padding=dilation, dilation=dilation),
            nn.LeakyReLU(0.2),
        )


class HalvingConv(nn.Conv3d):
    """Convolution of kernel 2 and stride 2 that halves a grid of odd sizes and keeps its corners.

    Alone, it would be centred between voxels. The mean of neighbouring voxels comes first, so that
    it takes values from half a voxel on either side of every second voxel.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out, kernel_size=2, stride=2)

    def forward(self, maps: Image) -> Float[Tensor, "b m half_i half_j half_k"]:
        """Return feature maps on every second voxel, from the first to the last."""
        between = F.avg_pool3d(maps, 2, stride=1, padding=1, count_include_pad=False)
        return super().forward(between)


class DoublingConv(nn.ConvTranspose3d):
    """Transposed convolution of kernel 2 and stride 2 that doubles a grid and keeps its corners.

    It is the reverse of ``HalvingConv``: m voxels become 2 m - 1. Means of neighbouring outputs,
    which lie between voxels, give the values at voxels.
    """

    def __init__(self, channels_in: int, channels_out: int, *, bias: bool = True) -> None:
        super().__init__(channels_in, channels_out, kernel_size=2, stride=2, bias=bias)

    def forward(self, maps: Float[Tensor, "b c half_i half_j half_k"]) -> Maps:  # type: ignore[override]
        """Return feature maps on the finer grid, every second voxel of which is one of ``maps``."""
        return F.avg_pool3d(super().forward(maps), 2, stride=1)
