from itertools import product

import pytest
import torch
import torch.nn.functional as F

from l2reg.models.cost_volume import cost_volume

SHAPE = (4, 5, 6)


def brute_force(fixed: torch.Tensor, moving: torch.Tensor, radius: int) -> torch.Tensor:
    padded = F.pad(moving, [radius] * 6)
    i, j, k = fixed.shape[2:]
    return torch.stack(
        [
            (fixed * padded[:, :, di : di + i, dj : dj + j, dk : dk + k]).mean(dim=1)
            for di, dj, dk in product(range(2 * radius + 1), repeat=3)
        ],
        dim=1,
    )


def features(rng: torch.Generator) -> list[torch.Tensor]:
    return [
        torch.randn(2, 3, *SHAPE, generator=rng, dtype=torch.float64).requires_grad_()
        for _ in range(2)
    ]


@pytest.mark.parametrize("radius", [1, 2, 3])
def test_equals_brute_force_in_value_and_gradients(radius: int, rng: torch.Generator) -> None:
    pair = features(rng)
    ours, expected = cost_volume(*pair, radius), brute_force(*pair, radius)
    torch.testing.assert_close(ours, expected)
    upstream = torch.randn(ours.shape, generator=rng, dtype=torch.float64)
    for mine, theirs in zip(
        torch.autograd.grad(ours, pair, upstream),
        torch.autograd.grad(expected, pair, upstream),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


def test_gradients_are_those_of_finite_differences(rng: torch.Generator) -> None:
    fixed, moving = (tensor[:1, :2, :2, :3, :4] for tensor in features(rng))
    assert torch.autograd.gradcheck(lambda a, b: cost_volume(a, b, 1), (fixed, moving))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_last_axis_runs_fastest_and_offsets_point_into_the_moving_map(axis: int) -> None:
    fixed, moving = torch.zeros(1, 1, *SHAPE), torch.zeros(1, 1, *SHAPE)
    fixed_voxel, moving_voxel = [2, 2, 3], [2, 2, 3]
    moving_voxel[axis] += 1
    fixed[0, 0, *fixed_voxel] = moving[0, 0, *moving_voxel] = 1.0
    costs = cost_volume(fixed, moving, 1)
    stride = (9, 3, 1)[axis]
    assert costs.nonzero().tolist() == [[0, 13 + stride, *fixed_voxel]]


def test_autocast_changes_nothing(rng: torch.Generator) -> None:
    fixed, moving = (tensor.float().detach() for tensor in features(rng))
    exact = cost_volume(fixed, moving, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(cost_volume(fixed, moving, 2), exact)
        assert cost_volume(fixed.bfloat16(), moving.bfloat16(), 2).dtype == torch.float32


def test_a_gradient_may_have_any_memory_layout(rng: torch.Generator) -> None:
    pair = features(rng)
    costs = cost_volume(*pair, 1)
    flat = torch.autograd.grad(costs.sum(), pair, retain_graph=True)
    for mine, other in zip(torch.autograd.grad(costs.mT.sum(), pair), flat, strict=True):
        torch.testing.assert_close(mine, other)
