"""Folding: negative determinants of the Jacobian (Mok and Chung 2020, LapIRN's eq. 5)."""

from torch import nn

from l2reg.geometry.jacobian import determinant, edge_differences
from l2reg.losses.objective import Aligned
from l2reg.shapes import Field, PerPair


def folding_penalty(disp: Field) -> PerPair:
    """Return the mean of how far determinants lie below 0; 0 for a field without folds.

    Determinants are those of forward differences, one for every cell between voxels.

    Args:
        disp: Field in voxels, on a grid of two or more voxels along each axis.
    """
    return (-determinant(*edge_differences(disp))).clamp(min=0).mean(dim=(1, 2, 3))


class Folding(nn.Module):
    """``folding_penalty`` of the displacement."""

    def forward(self, aligned: Aligned) -> PerPair:
        """Penalise folds."""
        return folding_penalty(aligned.prediction.disp)
