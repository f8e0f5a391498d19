"""Parts that several networks share."""

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from l2reg.shapes import Image


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


class ConvBlock(nn.Sequential):
    """3x3x3 convolution and LeakyReLU 0.2, as in VoxelMorph.

    Args:
        channels_in: Feature maps that enter.
        channels_out: Feature maps that leave.
        stride: 2 halves the grid.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv3d(channels_in, channels_out, kernel_size=3, stride=stride, padding=1),
            nn.LeakyReLU(0.2),
        )
