"""MSE: mean squared difference of intensities."""

from torch import nn

from l2reg.losses.objective import Aligned, masked_mean
from l2reg.shapes import Image, Mask, PerPair


def mean_squared_error(fixed: Image, warped: Image, mask: Mask) -> PerPair:
    """Return the mean squared difference inside ``mask``: 0 for equal images."""
    return masked_mean((warped - fixed).square(), mask)


class MSE(nn.Module):
    """``mean_squared_error`` of the warped and the fixed image."""

    def forward(self, aligned: Aligned) -> PerPair:
        """Compare intensities; both scans must have the same modality and intensity scale."""
        return mean_squared_error(aligned.batch["fixed"], aligned.warped, aligned.mask)
