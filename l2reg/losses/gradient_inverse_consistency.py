"""Gradient inverse consistency: composed fields have no derivative (GradICON, Tian et al. 2023).

Both directions may then differ from each other's inverse by a translation, which leaves networks
more freedom than ``inverse_consistency``.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from l2reg.geometry.compose import compose
from l2reg.geometry.jacobian import edge_differences
from l2reg.losses.inverse_consistency import consistency_mask
from l2reg.losses.objective import Aligned, masked_mean
from l2reg.shapes import Field, Mask, PerPair


def gradient_inverse_consistency_error(
    forward: Field, backward: Field, mask: Mask, spacing_mm: Float[Tensor, "b 3"]
) -> PerPair:
    """Return the mean squared Frobenius norm of the composition's Jacobian minus the identity.

    Forward differences, in mm per mm.

    Args:
        forward: Field from fixed to moving scan, in voxels.
        backward: Field from moving to fixed scan, in voxels of the same grid.
        mask: See ``inverse_consistency_error``.
        spacing_mm: Voxel size of the grid.
    """
    mm = compose(backward, forward) * spacing_mm[:, :, None, None, None]
    squares = [
        difference.square().sum(dim=1, keepdim=True)
        / spacing_mm[:, axis, None, None, None, None].square()
        for axis, difference in enumerate(edge_differences(mm))
    ]
    cells = -F.max_pool3d(-mask, 2, stride=1)  # whose voxels are all in the mask
    return masked_mean(torch.stack(squares).sum(dim=0), cells)


class GradientInverseConsistency(nn.Module):
    """``gradient_inverse_consistency_error`` of a batch with both directions, else 0.

    It needs ``trainer.symmetric``, which makes such batches.
    """

    def forward(self, aligned: Aligned) -> PerPair:
        """Compare the field of each pair with that of the opposite direction."""
        disp, batch = aligned.prediction.disp, aligned.batch
        if "opposite" not in batch:
            return disp.sum(dim=(1, 2, 3, 4)) * 0
        backward = disp[batch["opposite"]]
        mask = consistency_mask(aligned)
        return gradient_inverse_consistency_error(disp, backward, mask, batch["spacing_mm"])
