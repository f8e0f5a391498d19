"""MIND-SSC: self-similarity context, descriptors for scans of different modalities.

Heinrich et al. 2013.
"""

from dataclasses import dataclass
from itertools import combinations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from l2reg.geometry.filters import box_mean
from l2reg.shapes import Image, Maps

# The six neighbours of a voxel, and the twelve pairs of them that are not opposite.
NEIGHBOURS = [(-1, 0, 0), (1, 0, 0), (0, -1, 0), (0, 1, 0), (0, 0, -1), (0, 0, 1)]


EDGES = [
    (a, b)
    for a, b in combinations(range(6), 2)
    if sum((x - y) ** 2 for x, y in zip(NEIGHBOURS[a], NEIGHBOURS[b], strict=True)) == 2
]


NOISE = 1e-6  # added to v, as a fraction of the squared range: 0.001 of the range is no structure


def mind_ssc(
    image: Float[Tensor, "b 1 i j k"], *, radius: int, dilation: int
) -> Float[Tensor, "b 12 i j k"]:
    """Return the twelve self-similarity descriptors of every voxel.

    Each compares two patches that lie beside the voxel and are not opposite: ``exp(-d / v)``, where
    d is their mean squared difference minus the smallest of the twelve, and v is the mean of the
    twelve d, kept within a factor of 1000 of its mean over the image, plus ``NOISE`` times the
    squared range of the image's intensities. Gain, offset and inversion have no influence.

    Args:
        image: Image of one channel, with intensities of any scale.
        radius: Radius of the patches: their edge is ``2 * radius + 1`` voxels.
        dilation: Distance of the patches from the voxel, in voxels.

    Returns:
        Twelve channels in (0, 1]; 1 everywhere for a constant image.
    """
    image = _scale_to_unit_range(image.float())
    padded = F.pad(image, [dilation] * 6, mode="replicate")
    neighbours = [_shift(padded, offset, dilation, image) for offset in NEIGHBOURS]
    squares = [(neighbours[a] - neighbours[b]).square() for a, b in EDGES]
    distance = box_mean(torch.cat(squares, dim=1), 2 * radius + 1)
    distance = distance - distance.amin(dim=1, keepdim=True)
    variance = distance.mean(dim=1, keepdim=True)
    typical = variance.detach().mean(dim=(1, 2, 3, 4), keepdim=True)
    variance = torch.clamp(variance, typical * 1e-3, typical * 1e3) + NOISE
    return torch.exp(-distance / variance)


def _scale_to_unit_range(image: Image) -> Image:
    """Return ``image`` with intensities from 0 to 1, pair by pair; 0 if it is constant.

    A range of less than a thousandth of the largest intensity may be rounding: it stays smaller
    than 1, so that rounding stays below ``NOISE``.
    """
    axes = (1, 2, 3, 4)
    low, high = (extreme(image.detach(), axes, True) for extreme in (torch.amin, torch.amax))
    length = torch.maximum(high - low, 1e-3 * torch.maximum(high.abs(), low.abs()))
    return (image - low) / torch.where(length > 0, length, 1)


def _shift(padded: Tensor, offset: tuple[int, ...], dilation: int, like: Tensor) -> Tensor:
    """Return every voxel's neighbour at ``dilation * offset``, on the grid of ``like``."""
    i, j, k = (
        slice(dilation * (1 + step), dilation * (1 + step) + size)
        for step, size in zip(offset, like.shape[2:], strict=True)
    )
    return padded[:, :, i, j, k]


@dataclass(frozen=True)
class Mind:
    """Feature extractor of self-similarity descriptors (``mind_ssc``), for different modalities.

    Attributes:
        radius: Radius of the patches, in voxels.
        dilation: Distance of the patches from the voxel, in voxels.
    """

    radius: int
    dilation: int

    def __post_init__(self) -> None:
        if self.radius < 1 or self.dilation < 1:
            raise ValueError(
                f"radius and dilation must be 1 or more, got {self.radius}, {self.dilation}"
            )

    @property
    def reach(self) -> int:
        """Distance in voxels up to which the features of a voxel depend on others."""
        return self.radius + self.dilation

    def __call__(self, fixed: Image, moving: Image) -> tuple[Maps, Maps]:
        """Return the descriptors of both images, twelve channels each."""
        first, second = (
            mind_ssc(image, radius=self.radius, dilation=self.dilation) for image in (fixed, moving)
        )
        return first, second
