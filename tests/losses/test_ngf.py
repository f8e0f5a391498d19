from collections.abc import Callable

import numpy as np
import pytest
import torch

from l2reg.geometry.resize import resample
from l2reg.losses.ngf import NGF, gradient_misalignment
from l2reg.losses.objective import Aligned

SHAPE = (9, 10, 11)
SPACING = torch.tensor([[1.0, 1.5, 3.0]])


def smooth(rng: torch.Generator) -> torch.Tensor:
    return resample(torch.rand(1, 1, 4, 4, 4, generator=rng), SHAPE)


def test_it_is_the_formula_of_the_paper_in_numpy(rng: torch.Generator) -> None:
    fixed, warped = smooth(rng), smooth(rng)
    mask = (torch.rand(1, 1, *SHAPE, generator=rng) > 0.3).float()
    found = gradient_misalignment(fixed, warped, mask, SPACING, edge=0.5)
    spacing, weight = SPACING[0].double().tolist(), mask[0, 0].double().numpy()
    f, w = (np.stack(np.gradient(image[0, 0].double().numpy(), *spacing))
            for image in (fixed, warped))  # fmt: skip
    e_f, e_w = (0.5 * (np.linalg.norm(g, axis=0) * weight).sum() / weight.sum() for g in (f, w))
    product = (f * w).sum(0) + e_f * e_w
    expected = 1 - product**2 / (((f**2).sum(0) + e_f**2) * ((w**2).sum(0) + e_w**2))
    np.testing.assert_allclose(found[0, 0].numpy(), expected, atol=1e-5)


def test_contrast_and_its_inversion_hardly_matter_but_a_shift_does(
    aligned: Callable[..., Aligned], rng: torch.Generator
) -> None:
    image = smooth(rng)
    loss = NGF(edge=0.1)
    assert loss(aligned(image, image)).item() < 1e-6
    assert loss(aligned(image, 0.2 + 0.5 * image)).item() < 1e-5
    inverted, moved = loss(aligned(image, 1 - image)), loss(aligned(image, image.roll(3, 2)))
    assert inverted.item() < 0.2 * moved.item()


def test_gradients_are_right(rng: torch.Generator) -> None:
    """Behind the planes that the edge parameter, a constant, is taken from."""
    fixed, warped = (torch.rand(1, 1, 8, 4, 5, dtype=torch.float64, generator=rng) for _ in "ab")
    mask = torch.zeros_like(fixed)
    mask[:, :, :3] = 1
    front, back = warped[:, :, :4], warped[:, :, 4:].clone().requires_grad_()

    def loss(part: torch.Tensor) -> torch.Tensor:
        image = torch.cat([front, part], dim=2)
        return gradient_misalignment(fixed, image, mask, SPACING.double(), edge=0.7).sum()

    numeric = torch.zeros_like(back)
    for at in np.ndindex(*back.shape):
        step = torch.zeros_like(back)
        step[at] = 0.01
        numeric[at] = (loss(back + step) - loss(back - step)).detach() / 0.02
    (found,) = torch.autograd.grad(loss(back), back)
    assert (found - numeric).norm() < 0.01 * numeric.norm()


def test_an_edge_parameter_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        NGF(edge=0)
