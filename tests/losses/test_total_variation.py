import numpy as np
import torch

from l2reg.losses.diffusion import diffusion_energy
from l2reg.losses.total_variation import total_variation

SPACING = torch.tensor([[1.0, 1.5, 3.0]])


def test_translation_is_free() -> None:
    assert total_variation(torch.full((1, 3, 4, 5, 6), 7.0), SPACING).item() == 0


def test_it_is_the_mean_norm_of_a_naive_loop(random: np.random.Generator) -> None:
    disp = random.normal(size=(1, 3, 4, 5, 6))
    spacing = SPACING[0].numpy()
    norms = []
    for i, j, k in np.ndindex(3, 4, 5):
        here = disp[0, :, i, j, k] * spacing
        others = (disp[0, :, i + 1, j, k], disp[0, :, i, j + 1, k], disp[0, :, i, j, k + 1])
        jacobian = [(other * spacing - here) / mm
                    for other, mm in zip(others, spacing, strict=True)]  # fmt: skip
        norms.append(np.linalg.norm(jacobian))
    found = total_variation(torch.from_numpy(disp), SPACING.double()).item()
    np.testing.assert_allclose(found, np.mean(norms), atol=1e-3)


def test_a_jump_costs_what_a_ramp_of_the_same_height_costs() -> None:
    ramp, jump = torch.zeros(1, 3, 9, 5, 6), torch.zeros(1, 3, 9, 5, 6)
    ramp[0, 0] = torch.arange(9.0).view(9, 1, 1)
    jump[0, 0, 4:] = 8.0
    ones = torch.ones(1, 3)
    torch.testing.assert_close(
        total_variation(jump, ones), total_variation(ramp, ones), rtol=0.01, atol=0
    )
    assert diffusion_energy(jump, ones) > 7 * diffusion_energy(ramp, ones)


def test_gradients_are_right(rng: torch.Generator) -> None:
    disp = torch.randn(2, 3, 3, 4, 5, dtype=torch.float64, generator=rng, requires_grad=True)
    spacing = SPACING.double().expand(2, 3)
    assert torch.autograd.gradcheck(lambda field: total_variation(field, spacing), disp)
