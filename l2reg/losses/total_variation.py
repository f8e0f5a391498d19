"""Total variation: smoothness that lets organs slide along each other (Vishnevskiy et al. 2017)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from l2reg.geometry.jacobian import edge_differences
from l2reg.losses.objective import Aligned
from l2reg.shapes import Field, PerPair

_CORNER = 1e-3  # mm per mm; below it the penalty is quadratic, so that it has a derivative at 0


def total_variation(disp: Field, spacing_mm: Float[Tensor, "b 3"]) -> PerPair:
    """Return the mean norm of a field's derivative, all components together, in mm per mm.

    Forward differences. A jump costs as much as the same change spread over many voxels, while
    ``diffusion_energy`` prefers the latter.

    Args:
        disp: Field in voxels, on a grid of two or more voxels along each axis.
        spacing_mm: Voxel size of the field's grid.
    """
    mm = disp * spacing_mm[:, :, None, None, None]
    squares = [
        difference.square().sum(dim=1) / spacing_mm[:, axis, None, None, None].square()
        for axis, difference in enumerate(edge_differences(mm))
    ]
    square = torch.stack(squares).sum(dim=0)
    return ((square + _CORNER**2).sqrt() - _CORNER).mean(dim=(1, 2, 3))


class TotalVariation(nn.Module):
    """``total_variation`` of the displacement."""

    def forward(self, aligned: Aligned) -> PerPair:
        """Penalise differences between neighbouring displacements, in proportion to their size."""
        return total_variation(aligned.prediction.disp, aligned.batch["spacing_mm"])
