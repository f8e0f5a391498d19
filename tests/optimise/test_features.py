import pytest
import torch

from l2reg.geometry.resize import resample
from l2reg.losses.local_ncc import local_ncc
from l2reg.losses.mind import mind_ssc
from l2reg.optimise.features import LocalContrast, MatchedIntensity, Mind

SHAPE = (13, 14, 15)


def scan(rng: torch.Generator, pairs: int = 1) -> torch.Tensor:
    """Return a blurred texture between 0.1 and 0.9 in a background of 0."""
    coarse = torch.rand(pairs, 1, 6, 7, 8, generator=rng)
    image = torch.zeros(pairs, 1, *SHAPE)
    inner = (..., slice(1, -1), slice(2, -1), slice(1, -2))
    image[inner] = (0.1 + 0.8 * resample(coarse, SHAPE))[inner]
    return image


def test_self_similarity_is_that_of_the_loss(rng: torch.Generator) -> None:
    fixed, moving = (torch.rand(2, 1, *SHAPE, generator=rng) for _ in range(2))
    maps = Mind(radius=1, dilation=2)(fixed, moving)
    for image, features in zip((fixed, moving), maps, strict=True):
        assert torch.equal(features, mind_ssc(image, radius=1, dilation=2))


@pytest.mark.parametrize(("radius", "dilation"), [(0, 2), (1, 0)])
def test_impossible_patches_are_refused(radius: int, dilation: int) -> None:
    with pytest.raises(ValueError, match=f"1 or more, got {radius}, {dilation}"):
        Mind(radius, dilation)


def test_local_contrast_refuses_a_cube_of_one_voxel() -> None:
    with pytest.raises(ValueError, match="radius must be 1 or more, got 0"):
        LocalContrast(radius=0)


@pytest.mark.parametrize(("gain", "offset"), [(3.0, -7.0), (0.5, 0.2)])
def test_local_contrast_is_blind_to_gain_and_offset(
    gain: float, offset: float, rng: torch.Generator
) -> None:
    image = torch.rand(1, 1, *SHAPE, generator=rng)
    maps = LocalContrast(radius=2)(image, gain * image + offset)
    torch.testing.assert_close(*maps, atol=0.01, rtol=0)


def test_a_naive_loop_over_cubes_agrees_with_local_contrast(rng: torch.Generator) -> None:
    image = torch.rand(1, 2, *SHAPE, generator=rng, dtype=torch.float64)
    contrast, _ = LocalContrast(radius=1)(image, image)
    for i, j, k in [(0, 0, 0), (5, 6, 7), (12, 4, 14), (3, 13, 0)]:
        i_cube, j_cube, k_cube = (slice(max(at - 1, 0), at + 2) for at in (i, j, k))
        for channel in range(2):
            cube = image[0, channel, i_cube, j_cube, k_cube]
            deviation = (cube.var(correction=0) + 1e-4).sqrt()
            expected = (image[0, channel, i, j, k] - cube.mean()) / deviation
            torch.testing.assert_close(contrast[0, channel, i, j, k], expected)


def test_a_constant_image_has_no_contrast() -> None:
    flat = torch.full((1, 1, *SHAPE), 0.7)
    for contrast in LocalContrast(radius=2)(flat, flat):
        assert contrast.abs().max() < 1e-3


@pytest.mark.parametrize("noise", [0.0, 0.5, 1.0])
def test_squared_differences_of_contrast_are_twice_one_minus_the_correlation(
    noise: float, rng: torch.Generator
) -> None:
    shape = (24, 25, 26)
    fixed, other = (torch.rand(1, 1, *shape, generator=rng) for _ in range(2))
    moving = 2 * ((1 - noise) * fixed + noise * other)
    first, second = LocalContrast(radius=3)(fixed, moving)
    correlation = local_ncc(fixed, moving, window=7).sqrt()  # of one sign, but for noise
    if noise == 1.0:
        correlation = torch.zeros_like(correlation)
    expected = 2 * (1 - correlation).mean()
    torch.testing.assert_close((first - second).square().mean(), expected, atol=0.02, rtol=0.05)


def test_a_monotone_mapping_of_intensities_is_undone(rng: torch.Generator) -> None:
    fixed = scan(rng)
    kept, matched = MatchedIntensity()(fixed, 3 * fixed**1.7)
    assert kept is fixed
    torch.testing.assert_close(matched, fixed, atol=4e-3, rtol=0)


def test_the_mapping_is_taken_of_histograms_whatever_lies_where(rng: torch.Generator) -> None:
    fixed = scan(rng)
    moving = fixed.flip(2, 3, 4)
    _, matched = MatchedIntensity()(fixed, 3 * moving**1.7)
    torch.testing.assert_close(matched, moving, atol=4e-3, rtol=0)


def test_a_sample_of_the_voxels_is_enough(rng: torch.Generator) -> None:
    fixed = scan(rng)
    _, matched = MatchedIntensity(quantiles=64, samples=500)(fixed, 3 * fixed**1.7)
    assert (matched - fixed).abs().mean() < 4e-3


def test_background_stays_background(rng: torch.Generator) -> None:
    fixed = scan(rng)
    moving = (0.5 + fixed.flip(4)) * (fixed.flip(4) > 0)
    _, matched = MatchedIntensity()(fixed, moving)
    assert torch.equal(matched == 0, moving == 0)


def test_equal_scans_stay_equal(rng: torch.Generator) -> None:
    fixed = scan(rng)
    torch.testing.assert_close(MatchedIntensity()(fixed, fixed.clone())[1], fixed)


def test_scans_of_a_few_intensities_keep_them_apart() -> None:
    fixed = torch.arange(4.0).repeat_interleave(600).view(1, 1, 24, 10, 10)
    _, matched = MatchedIntensity()(fixed, 7 * fixed.square())
    torch.testing.assert_close(matched, fixed)


@pytest.mark.parametrize("empty", ["fixed", "moving"])
def test_a_scan_with_hardly_any_foreground_leaves_intensities_as_they_are(
    empty: str, rng: torch.Generator
) -> None:
    images = {"fixed": scan(rng), "moving": 2 * scan(rng)}
    images[empty] = torch.zeros(1, 1, *SHAPE)
    images[empty][..., 3, 3, :] = 0.4
    _, matched = MatchedIntensity()(**images)
    assert torch.equal(matched, images["moving"])


def test_every_pair_is_mapped_by_itself(rng: torch.Generator) -> None:
    fixed = scan(rng, pairs=2)
    moving = torch.cat([5 * fixed[:1] ** 1.7, fixed[1:] ** 0.6])
    match = MatchedIntensity()
    _, both = match(fixed, moving)
    torch.testing.assert_close(both, fixed, atol=4e-3, rtol=0)
    singles = [match(fixed[n : n + 1], moving[n : n + 1])[1] for n in range(2)]
    assert torch.equal(both, torch.cat(singles))
