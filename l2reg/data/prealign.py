"""Move a far-off image into view before anything else looks at it."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from l2reg.geometry.affine import identity_affine
from l2reg.geometry.warp import voxel_grid
from l2reg.shapes import Affine, Mask

Prealign = Literal["none", "mask_centre"]


def prealign_matrix(method: Prealign, fixed_mask: Mask, moving_mask: Mask) -> Affine:
    """Return the map from fixed to moving voxels that aligns a pair roughly.

    Args:
        method: ``none``, or ``mask_centre`` for the translation that brings the centres of mass
            of the two masks together (the abdomen's scans are far apart).
        fixed_mask: Region of interest of the fixed scan.
        moving_mask: That of the moving scan.
    """
    matrix = identity_affine(len(fixed_mask))
    if method == "mask_centre":
        matrix[:, :, 3] = _centre(moving_mask) - _centre(fixed_mask)
    return matrix


def _centre(mask: Mask) -> Float[Tensor, "b 3"]:
    weighted = (voxel_grid(mask) * mask).sum(dim=(2, 3, 4))
    return weighted / mask.sum(dim=(2, 3, 4))
