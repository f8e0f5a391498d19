import pytest
import torch

from l2reg.batch import Batch
from l2reg.features.mind import Mind
from l2reg.geometry.resize import resample, resize_points
from l2reg.geometry.warp import sample_at_points
from l2reg.optimisation.correspondences import KeypointMatcher
from l2reg.optimisation.gauss_newton import Regularisation, StepSettings, gauss_newton
from l2reg.optimisation.point_term import GivenPoints, PointMatches, PointTerm

SHAPE, CONTROL = (13, 17, 11), (4, 5, 3)


def points(rng: torch.Generator, n: int) -> torch.Tensor:
    return torch.rand(n, 3, generator=rng, dtype=torch.float64) * (torch.tensor(SHAPE) - 1)


def test_the_gradient_is_that_of_the_robust_energy(rng: torch.Generator) -> None:
    matches = PointMatches(points(rng, 9), points(rng, 9), weight=0.7, cauchy_scale=2.0)
    current = torch.randn(1, 3, *CONTROL, generator=rng, dtype=torch.float64, requires_grad=True)
    at = resize_points(matches.fixed_points[None], SHAPE, CONTROL)
    misfit = matches.fixed_points + sample_at_points(current, at)[0] - matches.moving_points
    square = misfit.square().sum(dim=1)
    energy = 0.5 * 0.7 * (4.0 * torch.log1p(square / 4)).mean()  # Cauchy's
    (expected,) = torch.autograd.grad(energy, current)

    _, gradient = matches.normal_equations(current.detach(), SHAPE)

    torch.testing.assert_close(gradient, expected * current[0, 0].numel())


def test_the_matrix_spreads_what_every_point_is_trusted_with(rng: torch.Generator) -> None:
    here = points(rng, 6)
    shift = torch.tensor([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0]], dtype=torch.float64).repeat(3, 1)
    still = torch.zeros(1, 3, *CONTROL, dtype=torch.float64)
    blocks, _ = PointMatches(here, here + shift, 1.0, cauchy_scale=2.0).normal_equations(
        still, SHAPE
    )
    assert blocks[:, [1, 2, 4]].abs().max() == 0
    trusted = (3 * 1.0 + 3 * 0.5) / 6 * still[0, 0].numel()
    for row in (0, 3, 5):
        torch.testing.assert_close(blocks[:, row].sum(), still.new_tensor(trusted))


@pytest.mark.parametrize("control", [(1, 5, 3), (2, 2, 2)])
def test_points_on_the_border_and_beyond_are_taken_at_the_border(
    control: tuple[int, int, int],
) -> None:
    here = torch.tensor([[0.0, 0.0, 0.0], [12.0, 16.0, 10.0], [40.0, -3.0, 5.0]])
    still = torch.zeros(1, 3, *control)
    blocks, gradient = PointMatches(here, here + 1, 1.0, 1.0).normal_equations(still, SHAPE)
    assert blocks[:, 0].sum() == pytest.approx(still[0, 0].numel() / 4)
    assert torch.isfinite(gradient).all()


def test_no_points_have_no_say() -> None:
    nothing = torch.zeros(0, 3)
    blocks, gradient = PointMatches(nothing, nothing, 1.0, 1.0).normal_equations(
        torch.zeros(1, 3, *CONTROL), SHAPE
    )
    assert blocks.abs().max() == gradient.abs().max() == 0


def test_points_move_even_images_and_an_outlier_among_them_does_not(rng: torch.Generator) -> None:
    even = torch.zeros(1, 1, *SHAPE)
    here = points(rng, 400).float()
    there = here + torch.tensor([1.0, -0.5, 0.5])
    there[:40] += 15.0
    found = gauss_newton(
        (even, even), (torch.ones_like(even), torch.ones_like(even)),
        torch.zeros(1, 3, *SHAPE), torch.ones(1, 3),
        Regularisation(elastic=0.0, viscous=0.01, smoothing_passes=1),
        StepSettings(2, 20, 0.0, 20, 0.03),
        PointMatches(here, there, 1.0, cauchy_scale=1.0),
    )  # fmt: skip
    ratio = torch.tensor([12 / 6, 16 / 8, 10 / 5]).view(3, 1, 1, 1)
    moved = resample(found * ratio, SHAPE)[0].mean(dim=(1, 2, 3))
    torch.testing.assert_close(moved, torch.tensor([1.0, -0.5, 0.5]), atol=0.2, rtol=0)


def term(weight: float) -> PointTerm:
    matcher = KeypointMatcher(
        features=Mind(1, 1), min_distance=3, max_points=200, search_radius=3, patch_radius=2,
        consistency_tolerance=1.0,
    )  # fmt: skip
    return PointTerm(matcher=matcher, weight=weight, cauchy_scale=1.0)


@pytest.mark.parametrize(("weight", "cauchy_scale"), [(-0.1, 1.0), (1.0, 0.0)])
def test_a_point_term_without_sense_is_refused(weight: float, cauchy_scale: float) -> None:
    with pytest.raises(ValueError, match=f"weight.*cauchy_scale.*got {weight}, {cauchy_scale}"):
        PointTerm(matcher=term(0.0).matcher, weight=weight, cauchy_scale=cauchy_scale)


def test_points_that_are_given_count_on_every_level_and_nothing_is_searched(
    rng: torch.Generator,
) -> None:
    first, second = points(rng, 4)[None].float(), points(rng, 4)[None].float()
    batch: Batch = {"fixed_points": first, "moving_points": second}
    by_hand = PointTerm(matcher=GivenPoints(), weight=0.5, cauchy_scale=2.0)
    for last in (False, True):
        matches = by_hand.matches(batch, torch.zeros(1, 3, *CONTROL), last=last)
        assert matches is not None
        assert torch.equal(matches.fixed_points, first[0])
        assert torch.equal(matches.moving_points, second[0])
    searching = term(0.5)
    assert searching.matches(batch, torch.zeros(1, 3, *CONTROL), last=False) is None
