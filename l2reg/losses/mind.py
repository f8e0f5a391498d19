"""Self-similarity context: compare scans of different modalities (Heinrich et al. 2013)."""

import torch
from torch import nn

from l2reg.features.mind import mind_ssc
from l2reg.losses.objective import Aligned, masked_mean
from l2reg.shapes import PerPair


class MIND(nn.Module):
    """Mean squared difference of the descriptors of the warped and the fixed image.

    Args:
        radius: Of the patches, in voxels of the working grid.
        dilation: Their distance, likewise.
    """

    def __init__(self, radius: int, dilation: int) -> None:
        super().__init__()
        if radius < 1 or dilation < 1:
            raise ValueError(f"radius and dilation must be 1 or more, got {radius}, {dilation}")
        self.radius = radius
        self.dilation = dilation

    def forward(self, aligned: Aligned) -> PerPair:
        """Compare structure; blind to what the intensities mean."""
        settings = {"radius": self.radius, "dilation": self.dilation}
        with torch.no_grad():
            fixed = mind_ssc(aligned.batch["fixed"], **settings)
        difference = mind_ssc(aligned.warped, **settings) - fixed
        return masked_mean(difference.square(), aligned.mask)
