"""Features of scans of several channels: each pair of channels has an extractor of its own."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from l2reg.features.extractor import FeatureExtractor
from l2reg.shapes import Image, Maps


@dataclass(frozen=True)
class ChannelFeatures:
    """Feature maps of every channel, one after the other.

    Attributes:
        extractors: The extractor of each channel of both images.
    """

    extractors: Sequence[FeatureExtractor]

    @property
    def reach(self) -> int:
        """Distance in voxels up to which the features of a voxel depend on others."""
        return max(extractor.reach for extractor in self.extractors)

    def __call__(self, fixed: Image, moving: Image) -> tuple[Maps, Maps]:
        """Return the feature maps of the fixed and of the moving image."""
        pairs = [
            extractor(fixed[:, n : n + 1], moving[:, n : n + 1])
            for n, extractor in enumerate(self.extractors)
        ]
        return torch.cat([first for first, _ in pairs], 1), torch.cat(
            [last for _, last in pairs], 1
        )
