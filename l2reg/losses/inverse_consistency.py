"""A field and the field of the opposite direction undo each other (Christensen & Johnson 2001)."""

from torch import nn

from l2reg.geometry.compose import compose
from l2reg.losses.objective import Aligned, masked_mean
from l2reg.shapes import Field, Mask, PerPair


def inverse_consistency_error(there: Field, back: Field, mask: Mask) -> PerPair:
    """Return the mean squared distance, in voxels, by which a point misses its start.

    Args:
        there: Field from fixed to moving scan.
        back: Field from moving to fixed scan, on the same grid.
        mask: 1 for the fixed voxels that count; where ``there`` leaves the grid, nothing is known.

    Returns:
        0 where each field is the other's inverse.
    """
    missed = compose(back, there).square().sum(dim=1, keepdim=True)
    return masked_mean(missed, mask)


class InverseConsistency(nn.Module):
    """``inverse_consistency_error`` of pairs that are in the batch in both directions, else 0.

    Used with ``trainer.symmetric``, which puts them there.
    """

    def forward(self, aligned: Aligned) -> PerPair:
        """Compare each field with that of its opposite."""
        disp = aligned.prediction.disp
        if "opposite" not in aligned.batch:
            return disp.sum(dim=(1, 2, 3, 4)) * 0
        return inverse_consistency_error(disp, disp[aligned.batch["opposite"]], aligned.mask)
