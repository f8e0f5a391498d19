from itertools import product

import numpy as np
import pytest
import torch

from l2reg.losses.bending import bending_energy

SPACING = torch.tensor([[1.0, 1.5, 3.0]])


def test_an_affine_map_is_free(rng: torch.Generator) -> None:
    grid = torch.stack(torch.meshgrid(*[torch.arange(float(n)) for n in (5, 6, 7)], indexing="ij"))
    disp = torch.einsum("cd,dijk->cijk", torch.randn(3, 3, generator=rng), grid)[None] + 2
    assert bending_energy(disp, SPACING).item() < 1e-8


@pytest.mark.parametrize(("a", "b"), list(product(range(3), repeat=2)))
def test_the_product_of_two_positions_has_its_known_second_derivatives(a: int, b: int) -> None:
    """u = p_a p_b in mm: 2 where a = b, else 1 twice; a third of it is the mean of components."""
    axes = [torch.arange(float(n)) * mm for n, mm in zip((5, 6, 7), SPACING[0], strict=True)]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    disp = torch.zeros(1, 3, 5, 6, 7)
    disp[0, 1] = grid[a] * grid[b] / SPACING[0, 1]
    expected = 4 / 3 if a == b else 2 / 3
    torch.testing.assert_close(bending_energy(disp, SPACING), torch.tensor([expected]))


def test_it_is_the_mean_over_a_naive_loop(random: np.random.Generator) -> None:
    disp = random.normal(size=(1, 3, 4, 5, 6))
    mm = disp * SPACING.numpy()[:, :, None, None, None]
    total = 0.0
    for a, b in product(range(3), repeat=2):
        second = np.diff(np.diff(mm, axis=2 + a), axis=2 + b)
        total += np.mean(second**2) / float(SPACING[0, a] * SPACING[0, b]) ** 2
    found = bending_energy(torch.from_numpy(disp), SPACING.double())
    np.testing.assert_allclose(found.item(), total, rtol=1e-10)


def test_gradients_are_right(rng: torch.Generator) -> None:
    disp = torch.randn(2, 3, 3, 4, 5, dtype=torch.float64, generator=rng, requires_grad=True)
    spacing = SPACING.double().expand(2, 3)
    assert torch.autograd.gradcheck(lambda field: bending_energy(field, spacing), disp)


def test_an_axis_of_one_voxel_has_no_derivative() -> None:
    assert bending_energy(torch.randn(1, 3, 1, 5, 6), SPACING).isfinite().all()
