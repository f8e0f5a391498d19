"""Diffusion energy: first-order smoothness of a displacement field."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from l2reg.losses.objective import Aligned
from l2reg.shapes import Field, PerPair


def diffusion_energy(disp: Field, spacing_mm: Float[Tensor, "b 3"]) -> PerPair:
    """Return the mean squared derivative of a field, in mm per mm.

    The mean runs over components, axes and voxels (forward differences). Translation costs
    nothing; a stretch to twice the length along one axis costs 1/9.

    Args:
        disp: Displacement or velocity field, in voxels.
        spacing_mm: Voxel size of the field's grid, so that all axes count alike.
    """
    mm = disp * spacing_mm[:, :, None, None, None]
    per_axis = [
        mm.diff(dim=2 + axis).square().mean(dim=(1, 2, 3, 4)) / spacing_mm[:, axis].square()
        for axis in range(3)
        if mm.shape[2 + axis] > 1
    ]
    return torch.stack(per_axis).sum(dim=0) / 3


class Diffusion(nn.Module):
    """``diffusion_energy`` of the velocity if the network has one, else of the displacement."""

    def forward(self, aligned: Aligned) -> PerPair:
        """Penalise differences between neighbouring displacements or velocities."""
        prediction = aligned.prediction
        field = prediction.disp if prediction.velocity is None else prediction.velocity
        return diffusion_energy(field, aligned.batch["spacing_mm"])
