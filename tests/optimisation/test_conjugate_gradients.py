import numpy as np
import torch

from l2reg.optimisation.conjugate_gradients import conjugate_gradients


def spd(rng: torch.Generator, pairs: int, size: int) -> torch.Tensor:
    root = torch.randn(pairs, size, size, generator=rng, dtype=torch.float64)
    return root @ root.mT + torch.diag(torch.linspace(1, 50, size, dtype=torch.float64))


def test_conjugate_gradients_solve_what_numpy_solves(
    rng: torch.Generator,
) -> None:
    matrices = spd(rng, 2, 3 * 8)
    target = torch.randn(2, 3, 1, 2, 4, generator=rng, dtype=torch.float64)

    def times(field: torch.Tensor) -> torch.Tensor:
        return (matrices @ field.flatten(1)[..., None]).view_as(field)

    diagonal = matrices.diagonal(dim1=1, dim2=2).reshape(target.shape)
    solution = conjugate_gradients(times, target, diagonal, 200, 1e-10)
    for pair in range(2):
        expected = np.linalg.solve(matrices[pair].numpy(), target[pair].numpy().ravel())
        np.testing.assert_allclose(solution[pair].numpy().ravel(), expected, rtol=1e-6, atol=1e-9)


def test_conjugate_gradients_stop_when_the_residual_is_small_or_the_budget_spent(
    rng: torch.Generator,
) -> None:
    matrix = spd(rng, 1, 24)[0]
    target = torch.randn(1, 3, 2, 2, 2, generator=rng, dtype=torch.float64)
    diagonal = matrix.diagonal().view_as(target)
    calls = []

    def times(field: torch.Tensor) -> torch.Tensor:
        calls.append(field)
        return (matrix @ field.flatten()).view_as(field)

    solution = conjugate_gradients(times, target, diagonal, 1000, 0.03)
    assert len(calls) < 100
    residual = target - times(solution)
    scaled = [(r.square() / diagonal).sum().sqrt() for r in (residual, target)]
    assert scaled[0] <= 0.03 * scaled[1] * (1 + 1e-9)
    calls.clear()
    conjugate_gradients(times, target, diagonal, 3, 0.03)
    assert len(calls) == 3


def test_nothing_to_solve_is_solved_by_zero(rng: torch.Generator) -> None:
    matrix, target = spd(rng, 1, 24)[0], torch.zeros(1, 3, 2, 2, 2, dtype=torch.float64)

    def times(field: torch.Tensor) -> torch.Tensor:
        raise AssertionError

    assert not conjugate_gradients(times, target, matrix.diagonal().view_as(target), 10, 0.1).any()
