"""Affine head: an affine map predicted from the feature maps of two images."""

import torch
from torch import nn

from l2reg.geometry.affine import affine_field
from l2reg.geometry.constants import constant
from l2reg.geometry.warp import voxel_coords
from l2reg.shapes import Affine, Field, Image


class AffineHead(nn.Module):
    """Linear layer from the first and second moments of all feature maps to an affine map.

    A mean over the volume shows which structures it contains, but not where they are. Moments
    depend on positions: a translation changes the first ones, a scaling the second ones. The
    weights are zero at first, so that a new head returns the identity.

    Args:
        channels: Number of feature maps of both images together.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(6 * channels, 12)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, fixed: Image, warped: Image) -> Field:
        """Return the field, in voxels, of the affine map that aligns ``warped`` with ``fixed``."""
        i, j, k = fixed.shape[2:]
        with torch.autocast(fixed.device.type, enabled=False):
            moments = self._moments(torch.cat([fixed, warped], dim=1).float())
            return affine_field(about_centre(self.linear(moments).view(-1, 3, 4), fixed), (i, j, k))

    @staticmethod
    def _moments(maps: Image) -> torch.Tensor:
        """Return each map's means weighted by p and by p squared, p in [-1, 1] along each axis."""
        last = constant(maps, maps.shape[2:]).view(3, 1, 1, 1) - 1
        position = 2 * voxel_coords(maps) / last - 1
        powers = torch.cat([position, position.square()], dim=1)
        moments = torch.einsum("bcijk,bdijk->bcd", maps, powers) / maps[0, 0].numel()
        return moments.flatten(1)


def about_centre(change: Affine, like: Image) -> Affine:
    """Return the map that adds ``change`` to the identity, its origin at the volume's centre.

    Args:
        change: Difference from the identity: the linear part, and the translation in voxels.
        like: Volume on the grid whose voxels are mapped.
    """
    linear, shift = change[:, :, :3], change[:, :, 3:]
    centre = (constant(change, like.shape[2:]) - 1)[:, None] / 2
    return torch.cat([linear + torch.eye(3).to(linear), shift - linear @ centre], dim=2)
