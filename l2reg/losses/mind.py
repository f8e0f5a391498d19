"""MIND loss: self-similarity context of scans of different modalities (Heinrich et al. 2013)."""

import torch
from torch import nn

from l2reg.features.mind import mind_ssc
from l2reg.losses.objective import Aligned, channel_mean, mean_dissimilarity
from l2reg.shapes import PerPair


class MIND(nn.Module):
    """Mean squared difference of the descriptors (``mind_ssc``) of warped and fixed image.

    Args:
        radius: Radius of the patches, in voxels of the working grid.
        dilation: Distance of the patches from the voxel, in voxels of the working grid.
    """

    def __init__(self, radius: int, dilation: int) -> None:
        super().__init__()
        if radius < 1 or dilation < 1:
            raise ValueError(f"radius and dilation must be 1 or more, got {radius}, {dilation}")
        self.radius = radius
        self.dilation = dilation
        self.min_size = 2 * (radius + dilation) + 1

    def forward(self, aligned: Aligned) -> PerPair:
        """Compare local structure, which hardly depends on the scans' modalities."""
        return channel_mean(self._of_channel, aligned)

    def _of_channel(self, aligned: Aligned) -> PerPair:
        settings = {"radius": self.radius, "dilation": self.dilation}
        with torch.no_grad():
            fixed = mind_ssc(aligned.batch["fixed"], **settings)
        difference = mind_ssc(aligned.warped, **settings) - fixed
        fixed_mask = aligned.batch["fixed_mask"]
        return mean_dissimilarity(difference.square(), aligned.mask, fixed_mask)
