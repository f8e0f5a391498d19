"""Bending energy: second-order smoothness of a displacement field (Rueckert et al. 1999, eq. 3)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from l2reg.losses.objective import Aligned
from l2reg.shapes import Field, PerPair


def bending_energy(disp: Field, spacing_mm: Float[Tensor, "b 3"]) -> PerPair:
    """Return the mean over components and voxels of the squared second derivatives, in mm^-2.

    The three pure derivatives count once, the three mixed ones twice. Affine maps cost nothing. An
    axis of too few voxels for a derivative has none.

    Args:
        disp: Displacement or velocity field, in voxels.
        spacing_mm: Voxel size of the field's grid.
    """
    mm = disp * spacing_mm[:, :, None, None, None]
    total = torch.zeros_like(spacing_mm[:, 0])
    for a in range(3):
        for b in range(a, 3):
            second = mm.diff(dim=2 + a).diff(dim=2 + b)
            if second.numel():
                size = (spacing_mm[:, a] * spacing_mm[:, b]).square()
                mean = second.square().mean(dim=(1, 2, 3, 4)) / size
                total = total + (1 if a == b else 2) * mean
    return total


class Bending(nn.Module):
    """``bending_energy`` of the velocity if the network has one, else of the displacement."""

    def forward(self, aligned: Aligned) -> PerPair:
        """Penalise curvature."""
        prediction = aligned.prediction
        field = prediction.disp if prediction.velocity is None else prediction.velocity
        return bending_energy(field, aligned.batch["spacing_mm"])
