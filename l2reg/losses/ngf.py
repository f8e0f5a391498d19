"""Normalised gradient fields: edges of both scans are parallel (Haber and Modersitzki 2006)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from l2reg.losses.objective import Aligned, channel_mean, mean_dissimilarity
from l2reg.shapes import Image, Mask, PerPair

_FLAT = 1e-6  # per mm; smallest edge parameter, for images without an edge


def gradient_misalignment(
    fixed: Image, warped: Image, mask: Mask, spacing_mm: Float[Tensor, "b 3"], *, edge: float
) -> Image:
    """Return one minus the squared cosine of the angle between both images' gradients.

    ``1 - (<f, w> + e_f e_w)^2 / ((|f|^2 + e_f^2) (|w|^2 + e_w^2))`` for the gradients f and w: 0
    where they are parallel or opposite or both images are flat, 1 where they are perpendicular and
    strong. Central differences per mm, so that anisotropic voxels turn no gradient.

    Args:
        fixed: Fixed image of one channel.
        warped: Moving image on the fixed grid.
        mask: Weight of every voxel; the edge parameters e are means over it.
        spacing_mm: Voxel size of the grid.
        edge: Edge parameter, as a multiple of an image's mean gradient; weaker gradients count as
            noise.
    """
    first, second = (_gradient_per_mm(image.float(), spacing_mm) for image in (fixed, warped))
    noise = [_edge_parameter(gradient, mask, edge) for gradient in (first, second)]
    product = (first * second).sum(dim=1, keepdim=True) + noise[0] * noise[1]
    squares = [
        gradient.square().sum(dim=1, keepdim=True) + parameter.square()
        for gradient, parameter in zip((first, second), noise, strict=True)
    ]
    return 1 - product.square() / (squares[0] * squares[1])


def _gradient_per_mm(image: Image, spacing_mm: Float[Tensor, "b 3"]) -> Float[Tensor, "b 3 i j k"]:
    axes = [
        torch.gradient(image, dim=2 + axis)[0] / spacing_mm[:, axis, None, None, None, None]
        if image.shape[2 + axis] > 1
        else torch.zeros_like(image)
        for axis in range(3)
    ]
    return torch.cat(axes, dim=1)


@torch.no_grad()
def _edge_parameter(gradient: Tensor, mask: Mask, edge: float) -> Float[Tensor, "b 1 1 1 1"]:
    axes = (1, 2, 3, 4)
    norm = gradient.square().sum(dim=1, keepdim=True).sqrt()
    mean = (norm * mask).sum(dim=axes, keepdim=True) / mask.sum(dim=axes, keepdim=True).clamp(min=1)
    return (edge * mean).clamp(min=_FLAT)


class NGF(nn.Module):
    """Mean of ``gradient_misalignment`` of warped and fixed image.

    Args:
        edge: Edge parameter, above 0.
    """

    def __init__(self, edge: float) -> None:
        super().__init__()
        if edge <= 0:
            raise ValueError(f"edge must be above 0, got {edge}")
        self.edge = edge

    def forward(self, aligned: Aligned) -> PerPair:
        """Compare the directions of edges, whatever their contrast."""
        return channel_mean(self._of_channel, aligned)

    def _of_channel(self, aligned: Aligned) -> PerPair:
        batch = aligned.batch
        values = gradient_misalignment(
            batch["fixed"], aligned.warped, aligned.mask, batch["spacing_mm"], edge=self.edge
        )
        return mean_dissimilarity(values, aligned.mask, batch["fixed_mask"])
