from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from l2reg.losses.diffusion import Diffusion, diffusion_energy
from l2reg.losses.objective import Aligned
from l2reg.models.prediction import Prediction

ONE = torch.tensor([[1.0, 1.0, 1.0]])


def test_translation_is_free() -> None:
    energy = diffusion_energy(torch.full((2, 3, 4, 5, 6), 7.0), ONE.expand(2, 3))
    assert energy.tolist() == [0.0, 0.0]


def test_a_stretch_to_twice_the_length_along_one_axis_costs_one_ninth() -> None:
    disp = torch.zeros(1, 3, 4, 5, 6)
    disp[0, 1] = torch.arange(5.0).view(1, 5, 1)
    torch.testing.assert_close(diffusion_energy(disp, ONE), torch.tensor([1 / 9]))


@pytest.mark.parametrize("order", [(1, 2, 0), (2, 1, 0), (0, 2, 1)])
def test_permuting_the_axes_of_an_anisotropic_problem_changes_nothing(
    order: tuple[int, int, int], rng: torch.Generator
) -> None:
    disp = torch.randn(1, 3, 6, 7, 8, generator=rng)
    spacing = torch.tensor([[1.0, 1.5, 3.0]])
    permuted = disp[:, list(order)].permute(0, 1, *[2 + axis for axis in order])
    torch.testing.assert_close(
        diffusion_energy(permuted, spacing[:, list(order)]), diffusion_energy(disp, spacing)
    )


def test_the_same_motion_in_mm_costs_the_same_on_a_finer_grid() -> None:
    # u = 0.1 p in mm, sampled every 2 mm and every 1 mm.
    def stretch(n: int, mm: float) -> torch.Tensor:
        disp = torch.zeros(1, 3, n, n + 1, n + 2)
        disp[0, 0] = 0.1 * torch.arange(float(n)).view(n, 1, 1)
        return diffusion_energy(disp, torch.tensor([[mm, mm, mm]]))

    torch.testing.assert_close(stretch(6, 2.0), stretch(11, 1.0))


def test_a_velocity_is_smoothed_instead_of_its_flow(aligned: Callable[..., Aligned]) -> None:
    image = torch.zeros(1, 1, 4, 5, 6)
    rough = torch.randn(1, 3, 4, 5, 6)
    still = aligned(image, image)
    flow = replace(still, prediction=Prediction(rough, velocity=torch.ones_like(rough)))
    assert Diffusion()(flow).tolist() == [0.0]
    assert Diffusion()(aligned(image, image, rough)).item() > 0


def test_an_axis_of_one_voxel_has_no_derivative() -> None:
    flat = torch.randn(1, 3, 1, 5, 6)
    assert torch.isfinite(diffusion_energy(flat, ONE)).all()
