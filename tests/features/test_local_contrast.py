import pytest
import torch

from l2reg.features.local_contrast import LocalContrast
from l2reg.geometry.resize import resample
from l2reg.losses.local_ncc import local_ncc

SHAPE = (13, 14, 15)


def scan(rng: torch.Generator, pairs: int = 1) -> torch.Tensor:
    """Return a blurred texture between 0.1 and 0.9 in a background of 0."""
    coarse = torch.rand(pairs, 1, 6, 7, 8, generator=rng)
    image = torch.zeros(pairs, 1, *SHAPE)
    inner = (..., slice(1, -1), slice(2, -1), slice(1, -2))
    image[inner] = (0.1 + 0.8 * resample(coarse, SHAPE))[inner]
    return image


def test_local_contrast_refuses_a_cube_of_one_voxel() -> None:
    with pytest.raises(ValueError, match="radius must be 1 or more, got 0"):
        LocalContrast(radius=0, flat=1e-4)


@pytest.mark.parametrize(("gain", "offset"), [(3.0, -7.0), (0.5, 0.2)])
def test_local_contrast_is_blind_to_gain_and_offset(
    gain: float, offset: float, rng: torch.Generator
) -> None:
    image = torch.rand(1, 1, *SHAPE, generator=rng)
    maps = LocalContrast(radius=2, flat=1e-4)(image, gain * image + offset)
    torch.testing.assert_close(*maps, atol=0.01, rtol=0)


def test_an_offset_of_1000_changes_hardly_more_than_the_digits_that_it_costs_the_image(
    rng: torch.Generator,
) -> None:
    image = scan(rng, pairs=2)
    offset = torch.tensor([0.0, 1000.0]).view(2, 1, 1, 1, 1)
    contrast = LocalContrast(radius=2, flat=1e-4)
    maps, plain = contrast(image + offset, image)
    exact = contrast(image.double(), image.double())[0].float()
    torch.testing.assert_close(plain, exact, atol=1e-3, rtol=0)
    torch.testing.assert_close(maps, exact, atol=0.01, rtol=0)  # the image is rounded to 6e-5


def test_a_flat_cube_of_an_image_with_an_offset_has_no_contrast() -> None:
    image = torch.full((1, 1, *SHAPE), 1000.3)
    image[..., 8:] = 1001.3
    contrast, _ = LocalContrast(radius=2, flat=1e-4)(image, image)
    assert contrast[..., :6].abs().max() < 1e-3
    assert contrast[..., 10:].abs().max() < 1e-3
    assert contrast[..., 7:9].abs().min() > 0.5


def test_a_naive_loop_over_cubes_agrees_with_local_contrast(rng: torch.Generator) -> None:
    image = torch.rand(1, 2, *SHAPE, generator=rng, dtype=torch.float64)
    contrast, _ = LocalContrast(radius=1, flat=1e-4)(image, image)
    for i, j, k in [(0, 0, 0), (5, 6, 7), (12, 4, 14), (3, 13, 0)]:
        i_cube, j_cube, k_cube = (slice(max(at - 1, 0), at + 2) for at in (i, j, k))
        for channel in range(2):
            cube = image[0, channel, i_cube, j_cube, k_cube]
            deviation = (cube.var(correction=0) + 1e-4).sqrt()
            expected = (image[0, channel, i, j, k] - cube.mean()) / deviation
            torch.testing.assert_close(contrast[0, channel, i, j, k], expected)


def test_a_constant_image_has_no_contrast() -> None:
    flat = torch.full((1, 1, *SHAPE), 0.7)
    for contrast in LocalContrast(radius=2, flat=1e-4)(flat, flat):
        assert contrast.abs().max() < 1e-3


@pytest.mark.parametrize("noise", [0.0, 0.5, 1.0])
def test_squared_differences_of_contrast_are_twice_one_minus_the_correlation(
    noise: float, rng: torch.Generator
) -> None:
    shape = (24, 25, 26)
    fixed, other = (torch.rand(1, 1, *shape, generator=rng) for _ in range(2))
    moving = 2 * ((1 - noise) * fixed + noise * other)
    first, second = LocalContrast(radius=3, flat=1e-4)(fixed, moving)
    correlation = local_ncc(fixed, moving, window=7)[0].sqrt()  # of one sign, but for noise
    if noise == 1.0:
        correlation = torch.zeros_like(correlation)
    expected = 2 * (1 - correlation).mean()
    torch.testing.assert_close((first - second).square().mean(), expected, atol=0.02, rtol=0.05)
