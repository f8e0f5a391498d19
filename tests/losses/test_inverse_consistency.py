from collections.abc import Callable

import torch

from l2reg.batch import both_directions
from l2reg.geometry.compose import integrate
from l2reg.geometry.resize import resample
from l2reg.losses.inverse_consistency import InverseConsistency, inverse_consistency_error
from l2reg.losses.objective import Aligned

SHAPE = (16, 18, 20)


def velocity(rng: torch.Generator, pairs: int = 1) -> torch.Tensor:
    """Return a smooth velocity of two to three voxels that vanishes at the border."""
    inner = 1.5 * torch.randn(pairs, 3, 3, 3, 3, generator=rng)
    return resample(torch.nn.functional.pad(inner, [1] * 6), SHAPE)


def test_a_velocity_and_its_negative_undo_each_other(rng: torch.Generator) -> None:
    forward, backward = (
        integrate(sign * velocity(rng.manual_seed(1)), squarings=7) for sign in (1, -1)
    )
    mask = torch.ones(1, 1, *SHAPE)
    assert forward.abs().max() > 2
    assert inverse_consistency_error(forward, backward, mask) < 5e-3  # less than a tenth of a voxel
    assert inverse_consistency_error(forward, forward, mask) > 100 * inverse_consistency_error(
        forward, backward, mask
    )
    assert inverse_consistency_error(forward, -forward, mask) > 10 * inverse_consistency_error(
        forward, backward, mask
    )


def test_opposite_translations_cost_nothing_and_one_alone_its_squared_length() -> None:
    step = torch.tensor([1.0, -2.0, 0.5]).view(1, 3, 1, 1, 1).expand(1, 3, *SHAPE)
    mask = torch.ones(1, 1, *SHAPE)
    torch.testing.assert_close(inverse_consistency_error(step, -step, mask), torch.zeros(1))
    torch.testing.assert_close(
        inverse_consistency_error(step, 0 * step, mask), torch.tensor([5.25])
    )


def test_only_voxels_of_the_mask_count() -> None:
    forward = torch.zeros(1, 3, *SHAPE)
    forward[:, 0, :4] = 2.0
    mask = torch.ones(1, 1, *SHAPE)
    mask[:, :, :4] = 0
    assert inverse_consistency_error(forward, 0 * forward, mask) == 0


def test_the_term_compares_every_pair_with_its_own_opposite(
    aligned: Callable[..., Aligned], rng: torch.Generator
) -> None:
    image = torch.rand(2, 1, *SHAPE, generator=rng)
    batch = both_directions({"fixed": image, "moving": image})
    flow = velocity(rng, pairs=2)
    disp = integrate(torch.cat([flow, -flow]), squarings=7)
    consistent = aligned(batch["fixed"], batch["moving"], disp, opposite=batch["opposite"])
    assert (InverseConsistency()(consistent) < 5e-3).all()
    mixed_up = aligned(batch["fixed"], batch["moving"], disp[[0, 1, 3, 2]],
                       opposite=batch["opposite"])  # fmt: skip
    assert (InverseConsistency()(mixed_up) > 0.1).all()


def test_fields_that_lead_out_of_the_scan_everywhere_do_not_cost_nothing(
    aligned: Callable[..., Aligned],
) -> None:
    image = torch.ones(2, 1, *SHAPE)
    disp = torch.full((2, 3, *SHAPE), 100.0)
    opposite = torch.tensor([1, 0])
    assert (InverseConsistency()(aligned(image, image, disp, opposite=opposite)) > 100).all()


def test_pairs_of_one_direction_cost_nothing(aligned: Callable[..., Aligned]) -> None:
    image = torch.ones(1, 1, *SHAPE)
    disp = torch.ones(1, 3, *SHAPE, requires_grad=True)
    loss = InverseConsistency()(aligned(image, image, disp))
    loss.sum().backward()
    assert loss.tolist() == [0.0]


def test_the_gradient_reaches_both_directions(rng: torch.Generator) -> None:
    forward, backward = (velocity(rng).requires_grad_() for _ in range(2))
    inverse_consistency_error(forward, backward, torch.ones(1, 1, *SHAPE)).sum().backward()
    assert forward.grad is not None
    assert backward.grad is not None
    assert min(forward.grad.abs().sum(), backward.grad.abs().sum()) > 0
