from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.linalg import expm
from scipy.ndimage import map_coordinates
from torch import Tensor, nn

from l2reg.models.sitreg import AntisymmetricVelocity, SITReg

Batches = Callable[..., dict[str, Tensor]]

SHAPE = (17, 13, 21)


def moving_network() -> SITReg:
    """Return a network whose new weights are large enough for a motion of some voxels."""
    torch.manual_seed(0)
    network = SITReg([6, 8, 8], [8], max_velocity=0.4, grid="half")
    for level in network.levels:
        nn.init.normal_(level.conv.weight, std=0.3)  # type: ignore[union-attr, arg-type]
    return network


def composed(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    at = np.indices(inner.shape[1:]) + inner
    return inner + np.stack([map_coordinates(c, at, order=1, mode="nearest") for c in outer])


def test_exchanged_scans_give_the_inverse_field(batch: Batches) -> None:
    """The rest is that of fields composed between voxels: 5 % of the motion."""
    pair = batch(*SHAPE)
    exchanged = {"fixed": pair["moving"], "moving": pair["fixed"]}
    network = moving_network().train()
    velocities: list[Tensor] = []
    for level in network.levels:
        level.register_forward_hook(lambda _module, _inputs, output: velocities.append(output))
    with torch.no_grad():
        found, backward = network(pair), network(exchanged)
    for velocity, opposite in zip(velocities[:3], velocities[3:], strict=True):
        torch.testing.assert_close(opposite, -velocity, atol=1e-4, rtol=0)
    assert found.disp.abs().max() > 2
    assert [tuple(level.disp.shape[2:]) for level in found.levels] == [(5, 5, 7), (3, 3, 4)]
    for one, other in zip((found, *found.levels), (backward, *backward.levels), strict=True):
        disp, inverse = one.disp[0].numpy(), other.disp[0].numpy()
        length = np.linalg.norm(disp, axis=0).mean()
        for residual in (composed(disp, inverse), composed(inverse, disp)):
            assert np.linalg.norm(residual, axis=0).mean() < 0.05 * length
        assert np.linalg.norm(disp + inverse, axis=0).mean() > 0.08 * length


def test_exchanged_features_give_the_opposite_velocity_within_its_bound(
    rng: torch.Generator,
) -> None:
    fixed, moving = torch.randn(2, 1, 4, 6, 5, 7, generator=rng)
    level = AntisymmetricVelocity(4, [6, 8], max_velocity=0.4)
    assert not level(fixed, moving).any()
    nn.init.normal_(level.conv.weight, std=3.0)
    velocity = level(fixed, moving)
    torch.testing.assert_close(level(moving, fixed), -velocity, atol=1e-6, rtol=0)
    assert not level(fixed, fixed).any()
    assert 0.1 < velocity.abs().max() < 0.4
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert level(fixed, moving).dtype == torch.float32


class Linear(nn.Module):
    """A level whose velocity is linear in the distance from the middle of the volume."""

    def __init__(self, matrix: np.ndarray) -> None:
        super().__init__()
        self.matrix = torch.from_numpy(matrix).float()

    def forward(self, fixed: Tensor, moving: Tensor) -> Tensor:
        return self.matrix.matmul(centred(fixed.shape[2:])).view(1, 3, *fixed.shape[2:])


def centred(shape: tuple[int, ...]) -> Tensor:
    middle = (np.array(shape)[:, None] - 1) / 2
    return torch.from_numpy(np.indices(shape).reshape(3, -1) - middle).float()


def test_the_updates_act_on_both_sides_of_the_half_way_space(batch: Batches) -> None:
    """Flows of linear velocities are matrix exponentials, and these two do not commute."""
    shape = (25, 21, 29)
    coarse = 0.2 * np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 0.5]])
    fine = 0.2 * np.array([[1, 0, 0], [0, 0, 1], [0, 0, -1]])
    network = SITReg([4, 4], [4], max_velocity=0.4, grid="half")
    network.levels = nn.ModuleList([Linear(coarse), Linear(fine)])
    moved = expm(coarse) @ expm(2 * fine) @ expm(coarse) - np.eye(3)
    expected = (torch.from_numpy(moved).float() @ centred(shape)).view(3, *shape)
    inner = (slice(None), *3 * [slice(8, -8)])
    found = network(batch(*shape)).disp[0]
    torch.testing.assert_close(found[inner], expected[inner], atol=0.01, rtol=0)


def test_a_network_without_levels_is_refused() -> None:
    with pytest.raises(ValueError, match="features must have at least one level"):
        SITReg([], [8], max_velocity=0.4, grid="half")
