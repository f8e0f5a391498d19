"""Learned descriptors as features, alone and beside self-similarity."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from l2reg.features.extractor import FeatureExtractor
from l2reg.shapes import Image, Maps

_REACH = 8  # voxels


@runtime_checkable
class Descriptor(Protocol):
    """A network that describes one scan, such as ``models.descriptors.DescriptorNetwork``."""

    def describe(self, image: Image) -> Maps:
        """Return feature maps of unit length on the grid of the scan."""
        ...

    def to(self, device: torch.device) -> nn.Module:
        """Move the network to a device."""
        ...


@dataclass(frozen=True)
class Learned:
    """Feature extractor of learned descriptors, for scans of any contrast.

    Attributes:
        network: The trained network, in evaluation mode; it is moved to the device of the scans.
    """

    network: Descriptor

    @property
    def reach(self) -> int:
        """Distance in voxels up to which most of the influence on the features of a voxel lies.

        The coarse levels of the network reach farther: what is beyond has some influence.
        """
        return _REACH

    @torch.no_grad()
    def __call__(self, fixed: Image, moving: Image) -> tuple[Maps, Maps]:
        """Return the descriptors of both scans, in float32."""
        self.network.to(fixed.device)
        return self.network.describe(fixed), self.network.describe(moving)


@dataclass(frozen=True)
class Joint:
    """Learned descriptors beside self-similarity, as channels of one feature map.

    Attributes:
        learned: The learned descriptors.
        mind: The self-similarity.
        learned_share: Share of the squared difference of the descriptors, which is of about the
            size of that of self-similarity; between 0 and 1.
    """

    learned: FeatureExtractor
    mind: FeatureExtractor
    learned_share: float

    def __post_init__(self) -> None:
        if not 0 < self.learned_share < 1:
            raise ValueError(f"learned_share must be between 0 and 1, got {self.learned_share}")

    @property
    def reach(self) -> int:
        """The larger reach of both."""
        return max(self.learned.reach, self.mind.reach)

    def __call__(self, fixed: Image, moving: Image) -> tuple[Maps, Maps]:
        """Return both feature maps of each scan, scaled by the square root of their shares."""
        both = zip(self.learned(fixed, moving), self.mind(fixed, moving), strict=True)
        first, second = (
            torch.cat(
                [self.learned_share**0.5 * learned, (1 - self.learned_share) ** 0.5 * mind], dim=1
            )
            for learned, mind in both
        )
        return first, second
