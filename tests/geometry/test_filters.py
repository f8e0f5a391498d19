import numpy as np
import pytest
import torch
from scipy.ndimage import binary_erosion, maximum_filter, uniform_filter

from l2reg.geometry import filters
from l2reg.geometry.filters import box_maximum, box_mean, box_mean_, erode, smooth

SHAPE = (9, 10, 11)


def test_a_box_is_never_wider_than_the_volume(rng: torch.Generator) -> None:
    small = torch.rand(1, 1, 5, 4, 1, generator=rng)
    expected = small.clone()
    for axis, reach in ((2, 2), (3, 1)):  # 5 and 3 voxels wide
        size = small.shape[axis]
        expected = torch.stack(
            [
                expected.narrow(
                    axis, max(0, n - reach), min(size, n + reach + 1) - max(0, n - reach)
                ).mean(dim=axis)
                for n in range(size)
            ],
            dim=axis,
        )
    torch.testing.assert_close(box_mean(small, 9), expected)


def test_boxes_are_cut_off_at_the_border(rng: torch.Generator) -> None:
    volume = torch.rand(1, 2, *SHAPE, generator=rng, dtype=torch.float64)
    mean = box_mean(volume, 5)
    inner = (slice(2, -2), slice(2, -2), slice(2, -2))
    expected = uniform_filter(volume[0, 1].numpy(), 5)
    np.testing.assert_allclose(mean[0, 1].numpy()[inner], expected[inner], atol=1e-12)
    torch.testing.assert_close(mean[0, 0, 0, 0, 0], volume[0, 0, :3, :3, :3].mean())


@pytest.mark.parametrize("window", [3, 5, 7, 11])
def test_a_large_offset_costs_no_more_than_the_last_digits(
    window: int, rng: torch.Generator
) -> None:
    volume = 1e4 + torch.rand(1, 1, 40, 9, 10, generator=rng)
    error = (box_mean(volume, window) - box_mean(volume.double(), window)).abs().max()
    assert error < 4 * 1e4 * torch.finfo(torch.float32).eps


@pytest.mark.parametrize("values", [40, 2000])
def test_slabs_change_nothing(
    values: int, rng: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = torch.rand(2, 3, *SHAPE, generator=rng).mT
    whole = box_mean(volume, 5), smooth(volume, 2)
    monkeypatch.setattr(filters, "_SLAB_VALUES", values)
    assert torch.equal(box_mean(volume, 5), whole[0])
    assert torch.equal(smooth(volume, 2), whole[1])


def test_gradients_are_those_of_finite_differences(rng: torch.Generator) -> None:
    volume = torch.rand(1, 1, 3, 5, 4, generator=rng, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: smooth(box_mean(v, 3), 2), (volume,))


def test_the_transposed_filter_is_the_adjoint(rng: torch.Generator) -> None:
    a, b = (torch.rand(1, 1, *SHAPE, generator=rng, dtype=torch.float64) for _ in range(2))
    filtered = box_mean_(b.clone(), 5, transposed=True)
    torch.testing.assert_close((box_mean(a, 5) * b).sum(), (a * filtered).sum())


@pytest.mark.parametrize("passes", [0, 1, 3])
def test_smoothing_is_that_of_scipy_with_repeated_edges(passes: int, rng: torch.Generator) -> None:
    volume = torch.rand(2, 3, *SHAPE, generator=rng, dtype=torch.float64)
    expected = volume[1, 2].numpy()
    for _ in range(passes):
        expected = uniform_filter(expected, 3, mode="nearest")
    np.testing.assert_allclose(smooth(volume, passes)[1, 2].numpy(), expected, atol=1e-12)


def test_smoothing_is_self_adjoint(rng: torch.Generator) -> None:
    a, b = (torch.rand(1, 1, *SHAPE, generator=rng, dtype=torch.float64) for _ in range(2))
    torch.testing.assert_close((smooth(a, 1) * b).sum(), (a * smooth(b, 1)).sum())


@pytest.mark.parametrize("radius", [0, 1, 3])
def test_the_maximum_over_a_cube_is_that_of_scipy(radius: int, rng: torch.Generator) -> None:
    volume = torch.randn(2, 3, *SHAPE, generator=rng) - 5
    expected = maximum_filter(volume[1, 2].numpy(), 2 * radius + 1, mode="constant", cval=-np.inf)
    np.testing.assert_array_equal(box_maximum(volume, radius)[1, 2].numpy(), expected)


@pytest.mark.parametrize("radius", [0, 1, 3])
def test_erosion_is_that_of_scipy_with_the_border_kept(radius: int, rng: torch.Generator) -> None:
    mask = (torch.rand(2, 1, *SHAPE, generator=rng) > 0.05).float()
    cube = np.ones((2 * radius + 1,) * 3)
    expected = binary_erosion(mask[1, 0].numpy() > 0, cube, border_value=1)
    np.testing.assert_array_equal(erode(mask, radius)[1, 0].numpy() > 0, expected)
