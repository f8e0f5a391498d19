import numpy as np
import torch

from l2reg.losses.folding import folding_penalty


def test_a_field_without_folds_costs_nothing_and_has_no_gradient() -> None:
    disp = (0.1 * torch.randn(1, 3, 5, 6, 7)).requires_grad_()
    loss = folding_penalty(disp)
    loss.sum().backward()
    assert loss.item() == 0
    assert disp.grad is not None
    assert not disp.grad.any()


def test_it_is_the_mean_of_negative_determinants_in_a_naive_loop(
    random: np.random.Generator,
) -> None:
    disp = random.normal(size=(1, 3, 4, 5, 6))
    below = []
    for i, j, k in np.ndindex(3, 4, 5):
        here = disp[0, :, i, j, k]
        others = (disp[0, :, i + 1, j, k], disp[0, :, i, j + 1, k], disp[0, :, i, j, k + 1])
        jacobian = np.stack([other - here for other in others], axis=1) + np.eye(3)
        below.append(max(0.0, -np.linalg.det(jacobian)))
    assert np.count_nonzero(below) > 10
    np.testing.assert_allclose(folding_penalty(torch.from_numpy(disp)).item(), np.mean(below))


def test_gradients_are_right(rng: torch.Generator) -> None:
    disp = 2 * torch.randn(2, 3, 3, 4, 5, dtype=torch.float64, generator=rng)
    assert torch.autograd.gradcheck(folding_penalty, disp.requires_grad_())


def test_descending_it_removes_the_folds(rng: torch.Generator) -> None:
    disp = (1.5 * torch.randn(1, 3, 6, 7, 8, generator=rng)).requires_grad_()
    optimizer = torch.optim.Adam([disp], lr=0.05)
    before = folding_penalty(disp).item()
    for _ in range(150):
        optimizer.zero_grad()
        folding_penalty(disp).sum().backward()
        optimizer.step()
    assert folding_penalty(disp).item() < 0.01 * before
