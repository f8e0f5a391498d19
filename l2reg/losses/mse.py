"""MSE: mean squared difference of intensities."""

from torch import nn

from l2reg.losses.objective import Aligned, channel_mean, mean_dissimilarity
from l2reg.shapes import Image, Mask, PerPair


def mean_squared_error(fixed: Image, warped: Image, mask: Mask, fixed_mask: Mask) -> PerPair:
    """Return ``mean_dissimilarity`` of the squared differences: 0 for equal images.

    Args:
        fixed: Fixed image, with intensities in [0, 1].
        warped: Moving image on the fixed grid.
        mask: See ``mean_dissimilarity``.
        fixed_mask: See ``mean_dissimilarity``.
    """
    return mean_dissimilarity((warped - fixed).square(), mask, fixed_mask)


class MSE(nn.Module):
    """``mean_squared_error`` of the warped and the fixed image."""

    def forward(self, aligned: Aligned) -> PerPair:
        """Compare intensities; both scans must have the same modality and intensity scale."""
        return channel_mean(self._of_channel, aligned)

    def _of_channel(self, aligned: Aligned) -> PerPair:
        batch = aligned.batch
        return mean_squared_error(batch["fixed"], aligned.warped, aligned.mask, batch["fixed_mask"])
