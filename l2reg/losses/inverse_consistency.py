"""Inverse consistency: the fields of both directions are inverses (Christensen & Johnson 2001)."""

import torch
from torch import nn

from l2reg.geometry.compose import compose
from l2reg.losses.objective import Aligned, masked_mean
from l2reg.shapes import Field, Mask, PerPair


def inverse_consistency_error(forward: Field, backward: Field, mask: Mask) -> PerPair:
    """Return the mean squared distance of voxels from their image under both fields, in voxels^2.

    Args:
        forward: Field from fixed to moving scan, in voxels.
        backward: Field from moving to fixed scan, in voxels of the same grid.
        mask: 1 for the fixed voxels that count, else 0; those that ``forward`` moves out of the
            grid must be 0, as ``backward`` is unknown there.

    Returns:
        0 where each field is the other's inverse.
    """
    squared_error = compose(backward, forward).square().sum(dim=1, keepdim=True)
    return masked_mean(squared_error, mask)


class InverseConsistency(nn.Module):
    """``inverse_consistency_error`` of a batch that has each pair in both directions, else 0.

    It needs ``trainer.symmetric``, which makes such batches.
    """

    def forward(self, aligned: Aligned) -> PerPair:
        """Compare the field of each pair with that of the opposite direction.

        If a field leads out of the moving scan everywhere, all of the fixed mask counts.
        """
        disp = aligned.prediction.disp
        if "opposite" not in aligned.batch:
            return disp.sum(dim=(1, 2, 3, 4)) * 0
        backward = disp[aligned.batch["opposite"]]
        return inverse_consistency_error(disp, backward, consistency_mask(aligned))


def consistency_mask(aligned: Aligned) -> Mask:
    """Return where both directions are compared: the overlap, or the fixed mask if that is empty.

    A field gains nothing by leading out of the moving scan everywhere.
    """
    is_empty = aligned.mask.sum(dim=(1, 2, 3, 4), keepdim=True) == 0
    return torch.where(is_empty, aligned.batch["fixed_mask"], aligned.mask)
