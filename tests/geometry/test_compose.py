import pytest
import torch
from scipy.ndimage import gaussian_filter

from l2reg.geometry.compose import compose, integrate, invert
from l2reg.geometry.warp import voxel_coords, warp

SHAPE = (22, 24, 26)


def smooth_field(rng: torch.Generator, size: float) -> torch.Tensor:
    noise = torch.randn(1, 3, *SHAPE, generator=rng, dtype=torch.float64)
    smooth = torch.from_numpy(gaussian_filter(noise.numpy(), (0, 0, 5, 5, 5)))
    return size * smooth / smooth.abs().max()


def inside(volume: torch.Tensor, margin: int = 6) -> torch.Tensor:
    return volume[..., margin:-margin, margin:-margin, margin:-margin]


def test_translations_add() -> None:
    shift = torch.tensor([1.0, 0.5, -2.0]).view(1, 3, 1, 1, 1).expand(1, 3, 6, 7, 8)
    torch.testing.assert_close(compose(shift, 2 * shift), 3 * shift)


def test_warping_twice_is_warping_by_the_composition(rng: torch.Generator) -> None:
    image = voxel_coords(torch.empty(1, 1, *SHAPE, dtype=torch.float64))  # linear: no blur
    first, then = smooth_field(rng, 1.0), smooth_field(rng, 1.0)
    twice = warp(warp(image, then), first)
    torch.testing.assert_close(inside(warp(image, compose(then, first))), inside(twice))


def test_the_inner_field_acts_first() -> None:
    # Stretch by two about the origin, then step one voxel: 2p + 1. The other way: 2p + 2.
    stretch = voxel_coords(torch.empty(1, 1, 5, 6, 7))
    step = torch.ones(1, 3, 5, 6, 7)
    torch.testing.assert_close(compose(step, stretch), stretch + 1)
    torch.testing.assert_close(
        compose(stretch, step)[..., :4, :5, :6], stretch[..., :4, :5, :6] + 2
    )


@pytest.mark.parametrize("squarings", [0, 1, 7])
def test_a_constant_velocity_integrates_to_itself_up_to_the_border(squarings: int) -> None:
    velocity = torch.tensor([3.0, -1.0, 0.5]).view(1, 3, 1, 1, 1).expand(1, 3, 8, 9, 10)
    torch.testing.assert_close(integrate(velocity, squarings=squarings), velocity)


def test_opposite_velocities_cancel_to_a_twentieth_of_a_voxel(rng: torch.Generator) -> None:
    velocity = smooth_field(rng, 4.0)
    forward, backward = (integrate(sign * velocity, squarings=7) for sign in (1, -1))
    assert inside(forward).norm(dim=1).max() > 1.5
    assert inside(compose(backward, forward)).norm(dim=1).max() < 0.05


def test_integration_follows_the_exponential_of_a_linear_velocity() -> None:
    grid = voxel_coords(torch.empty(1, 1, 9, 10, 11, dtype=torch.float64))
    velocity = -0.5 * (grid - 4)  # flows towards (4, 4, 4): p - 4 shrinks to exp(-0.5) (p - 4)
    expected = (torch.exp(torch.tensor(-0.5)) - 1) * (grid - 4)
    assert (integrate(velocity, squarings=10) - expected).abs().max() < 2e-3


def test_the_inverse_undoes_the_field(rng: torch.Generator) -> None:
    disp = smooth_field(rng, 2.0)
    inverse = invert(disp)
    assert inside(compose(disp, inverse)).norm(dim=1).max() < 5e-3
    assert inside(compose(inverse, disp)).norm(dim=1).max() < 0.05
