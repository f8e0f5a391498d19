from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline

from l2reg.losses.nmi import NMI, normalised_mutual_information
from l2reg.losses.objective import Aligned

SHAPE = (9, 10, 11)


def by_scipy(fixed: np.ndarray, warped: np.ndarray, weights: np.ndarray, n_bins: int) -> float:
    """The joint histogram by a dense sum over all bins, with SciPy's cubic B-spline."""
    spline = BSpline.basis_element(np.arange(-2.0, 3.0), extrapolate=False)

    def windows(values: np.ndarray) -> np.ndarray:
        inside = values[weights > 0]
        scaled = np.clip((values - inside.min()) / np.ptp(inside), 0, 1)
        distance = 1 + scaled[:, None] * (n_bins - 3) - np.arange(n_bins)
        return np.nan_to_num(spline(distance))

    joint = np.einsum("na,nb,n->ab", windows(fixed), windows(warped), weights)
    joint /= joint.sum()

    def entropy(p: np.ndarray) -> float:
        return -float((p[p > 0] * np.log(p[p > 0])).sum())

    return (entropy(joint.sum(0)) + entropy(joint.sum(1))) / entropy(joint)


@pytest.mark.parametrize("n_bins", [8, 32])
def test_it_is_the_ratio_of_entropies_of_a_dense_histogram(
    n_bins: int, random: np.random.Generator
) -> None:
    fixed = random.normal(size=500)
    warped = fixed**2 + 0.1 * random.normal(size=500)
    weights = random.uniform(size=500) * (random.uniform(size=500) > 0.2)
    tensors = [torch.from_numpy(values) for values in (fixed, warped, weights)]
    found = normalised_mutual_information(*tensors, n_bins=n_bins)
    assert found.item() == pytest.approx(by_scipy(fixed, warped, weights, n_bins), rel=1e-10)


def test_independent_images_share_nothing(random: np.random.Generator) -> None:
    fixed, warped = (torch.from_numpy(random.uniform(size=200_000)) for _ in "ab")
    ones = torch.ones_like(fixed)
    assert normalised_mutual_information(fixed, warped, ones, n_bins=16).item() < 1.001


def test_any_mapping_of_intensities_is_nearly_as_good_as_equality(
    aligned: Callable[..., Aligned], rng: torch.Generator
) -> None:
    image = torch.nn.functional.interpolate(torch.rand(1, 1, 4, 4, 4, generator=rng), size=SHAPE)
    loss = NMI(n_bins=16, n_samples=10_000)
    assert loss(aligned(image, image)).item() == 0
    mapped, moved = loss(aligned(image, (1 - image) ** 2)), loss(aligned(image, image.roll(2, 3)))
    assert abs(mapped.item()) < 0.4 * moved.item()


def test_few_samples_give_nearly_the_value_of_all_voxels(
    aligned: Callable[..., Aligned], rng: torch.Generator
) -> None:
    coarse = torch.rand(2, 1, 8, 8, 8, generator=rng)
    fixed, moving = torch.nn.functional.interpolate(coarse, size=(31, 33, 35), mode="trilinear")
    pair = aligned(fixed[None], fixed[None] * moving[None])
    few, every = (NMI(n_bins=8, n_samples=n)(pair).item() for n in (4000, 10**9))
    assert few == pytest.approx(every, abs=0.03)


def test_gradients_are_right(random: np.random.Generator) -> None:
    """The ends of the range are constants, so the first and last value stay where they are."""
    fixed = torch.from_numpy(random.uniform(0.1, 0.9, 40))
    inner = torch.from_numpy(random.uniform(0.1, 0.9, 38)).requires_grad_()
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    weights = torch.from_numpy(random.uniform(size=40))

    def nmi(values: torch.Tensor) -> torch.Tensor:
        return normalised_mutual_information(fixed, torch.cat([ends, values]), weights, n_bins=8)

    assert torch.autograd.gradcheck(nmi, inner)


def test_leaving_the_moving_scan_gains_nothing(
    aligned: Callable[..., Aligned], rng: torch.Generator
) -> None:
    image = torch.rand(1, 1, *SHAPE, generator=rng)
    away = torch.full((1, 3, *SHAPE), 100.0)
    assert NMI(n_bins=8, n_samples=5000)(aligned(image, image, away)).item() == pytest.approx(1)
