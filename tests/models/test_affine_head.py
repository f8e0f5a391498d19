import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform
from torch import nn

from l2reg.geometry.affine import affine_field
from l2reg.geometry.warp import voxel_coords, warp
from l2reg.models.affine_head import AffineHead, about_centre

SHAPE = (9, 11, 13)


def test_a_new_head_moves_nothing(rng: torch.Generator) -> None:
    fixed, warped = torch.rand(2, 2, 3, *SHAPE, generator=rng)
    assert (AffineHead(6)(fixed, warped) == 0).all()


def test_a_change_is_an_affine_map_of_positions_as_in_scipy(rng: torch.Generator) -> None:
    """Rotation, scaling and shear are included, which an affine map of displacements is not."""
    change = 0.1 * torch.randn(1, 3, 4, generator=rng, dtype=torch.float64)
    moving = torch.rand(1, 1, *SHAPE, generator=rng, dtype=torch.float64)
    matrix = about_centre(change, moving)
    centre = (np.array(SHAPE) - 1) / 2
    linear = np.eye(3) + change[0, :, :3].numpy()
    offset = centre + change[0, :, 3].numpy() - linear @ centre
    expected = affine_transform(moving[0, 0].numpy(), linear, offset, order=1, mode="nearest")
    warped = warp(moving, affine_field(matrix, SHAPE))
    np.testing.assert_allclose(warped[0, 0].numpy(), expected, atol=1e-9)


@pytest.mark.parametrize("scale", [0.0, 0.2])
def test_a_shift_and_a_zoom_can_be_learned(scale: float) -> None:
    """The pair is a blob in the middle and the same blob translated and scaled."""
    torch.manual_seed(0)
    grid = voxel_coords(torch.zeros(1, 1, *SHAPE))
    head = AffineHead(2)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.1)
    centre = torch.tensor([4.0, 5.0, 6.0]).view(1, 3, 1, 1, 1)

    def blobs(shift: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        true = shift + scale * (grid - centre)
        fixed = torch.exp(-(grid - centre).square().sum(1, keepdim=True) / 8)
        moving = torch.exp(-((grid - centre - shift) / (1 + scale)).square().sum(1, True) / 8)
        fixed, moving = (nn.functional.instance_norm(blob) for blob in (fixed, moving))
        return (
            fixed.expand(len(moving), -1, -1, -1, -1),
            moving,
            true.expand(len(moving), -1, *SHAPE),
        )

    for _ in range(200):
        fixed, moving, true = blobs(torch.randn(4, 3, 1, 1, 1))
        loss = nn.functional.mse_loss(head(fixed, moving), true)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    fixed, moving, true = blobs(torch.tensor([1.0, -1.0, 0.5]).view(1, 3, 1, 1, 1))
    error = (head(fixed, moving) - true).square().mean().sqrt()
    assert error < 0.25 * true.square().mean().sqrt()
