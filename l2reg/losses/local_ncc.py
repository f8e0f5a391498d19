"""Local normalised cross-correlation (Avants et al. 2008, squared as in ANTs and VoxelMorph)."""

import torch
from torch import nn

from l2reg.geometry.filters import box_mean
from l2reg.losses.objective import Aligned, masked_mean
from l2reg.shapes import Image, PerPair


def local_ncc(fixed: Image, warped: Image, *, window: int, flat: float = 1e-4) -> Image:
    """Return the squared correlation of both images in a cube around every voxel.

    Args:
        fixed: Fixed image, with intensities of order 1.
        warped: Moving image on the fixed grid.
        window: Edge length of the cube, an odd number of voxels.
        flat: Variance below which a cube counts as flat.

    Returns:
        1 where the images agree up to a local gain and offset, and where either image is flat, as
        the correlation is undefined there; 0 where they are unrelated.
    """
    fixed, warped = (image.float() - image.float().mean() for image in (fixed, warped))
    stacked = [fixed, warped, fixed * fixed, warped * warped, fixed * warped]
    means = box_mean(torch.cat(stacked, dim=1), window)
    fixed_mean, warped_mean, fixed_square, warped_square, product = means.chunk(5, dim=1)
    covariance = product - fixed_mean * warped_mean
    fixed_variance = (fixed_square - fixed_mean**2).clamp(min=0)
    warped_variance = (warped_square - warped_mean**2).clamp(min=0)
    return (covariance**2 + flat**2) / (fixed_variance * warped_variance + flat**2)


class LocalNCC(nn.Module):
    """``1 - local_ncc``: 0 for a perfect match, 1 for unrelated images.

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
        similarity = local_ncc(aligned.batch["fixed"], aligned.warped, window=self.window)
        return masked_mean(1 - similarity, aligned.mask)
