"""Local normalised cross-correlation (Avants et al. 2008, squared as in ANTs and VoxelMorph)."""

import torch
from torch import nn

from l2reg.geometry.filters import box_mean
from l2reg.losses.objective import Aligned, mean_dissimilarity
from l2reg.shapes import Image, Mask, PerPair

FLAT_VARIANCE = 1e-4  # of intensities in [0, 1]; a cube of less has no structure to compare


def local_ncc(fixed: Image, warped: Image, *, window: int) -> tuple[Image, Mask]:
    """Return the squared correlation of both images in a cube around every voxel.

    Variances below ``FLAT_VARIANCE`` are raised to it, so that a flat cube correlates with nothing.

    Args:
        fixed: Fixed image of one channel, with intensities of order 1.
        warped: Moving image on the fixed grid.
        window: Edge length of the cube, an odd number of voxels.

    Returns:
        The correlation: 1 where the images agree up to a local gain and offset, 0 where they are
        unrelated or the cube of either image is flat. The mask: 0 where the cubes of both images
        are flat, so that there is nothing to compare, else 1; it has no gradient.
    """
    fixed, warped = (_centre(image.float()) for image in (fixed, warped))
    stacked = [fixed, warped, fixed * fixed, warped * warped, fixed * warped]
    means = box_mean(torch.cat(stacked, dim=1), window)
    fixed_mean, warped_mean, fixed_square, warped_square, product = means.chunk(5, dim=1)
    covariance = product - fixed_mean * warped_mean
    variances = (fixed_square - fixed_mean**2, warped_square - warped_mean**2)
    fixed_variance, warped_variance = (variance.clamp(min=FLAT_VARIANCE) for variance in variances)
    similarity = (covariance**2 / (fixed_variance * warped_variance)).clamp(max=1)
    structured = torch.maximum(fixed_variance, warped_variance) > FLAT_VARIANCE
    return similarity, structured.to(similarity.dtype)


def _centre(image: Image) -> Image:
    """Return ``image`` minus its mean, pair by pair: squares of large offsets lose all digits."""
    return image - image.detach().mean(dim=(1, 2, 3, 4), keepdim=True)


class LocalNCC(nn.Module):
    """One minus the mean of ``local_ncc``: 0 for a perfect match, 1 for unrelated images.

    Args:
        window: Edge length of the cube, an odd number of voxels of the working grid.
    """

    def __init__(self, window: int) -> None:
        super().__init__()
        if window < 3 or window % 2 == 0:
            raise ValueError(f"window must be an odd number of voxels, at least 3; got {window}")
        self.window = window

    def forward(self, aligned: Aligned) -> PerPair:
        """Compare warped and fixed image; local gain and offset have no influence."""
        batch = aligned.batch
        similarity, structured = local_ncc(batch["fixed"], aligned.warped, window=self.window)
        masks = (aligned.mask * structured, batch["fixed_mask"] * structured)
        return mean_dissimilarity(1 - similarity, *masks)
