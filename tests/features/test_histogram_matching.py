import pytest
import torch

from l2reg.features.histogram_matching import HistogramMatching
from l2reg.geometry.resize import resample

SHAPE = (13, 14, 15)


def scan(rng: torch.Generator, pairs: int = 1) -> torch.Tensor:
    """Return a blurred texture between 0.1 and 0.9 in a background of 0."""
    coarse = torch.rand(pairs, 1, 6, 7, 8, generator=rng)
    image = torch.zeros(pairs, 1, *SHAPE)
    inner = (..., slice(1, -1), slice(2, -1), slice(1, -2))
    image[inner] = (0.1 + 0.8 * resample(coarse, SHAPE))[inner]
    return image


def test_a_monotone_mapping_of_intensities_is_undone(rng: torch.Generator) -> None:
    fixed = scan(rng)
    kept, matched = HistogramMatching(256, 100_000, 0.0)(fixed, 3 * fixed**1.7)
    assert kept is fixed
    torch.testing.assert_close(matched, fixed, atol=4e-3, rtol=0)


def test_the_mapping_is_taken_of_histograms_whatever_lies_where(rng: torch.Generator) -> None:
    fixed = scan(rng)
    moving = fixed.flip(2, 3, 4)
    _, matched = HistogramMatching(256, 100_000, 0.0)(fixed, 3 * moving**1.7)
    torch.testing.assert_close(matched, moving, atol=4e-3, rtol=0)


def test_a_sample_of_the_voxels_is_enough(rng: torch.Generator) -> None:
    fixed = scan(rng)
    _, matched = HistogramMatching(quantiles=64, samples=500, background=0.0)(fixed, 3 * fixed**1.7)
    assert (matched - fixed).abs().mean() < 4e-3


def test_background_stays_background(rng: torch.Generator) -> None:
    fixed = scan(rng)
    moving = (0.5 + fixed.flip(4)) * (fixed.flip(4) > 0)
    _, matched = HistogramMatching(256, 100_000, 0.0)(fixed, moving)
    assert torch.equal(matched == 0, moving == 0)


def test_equal_scans_stay_equal(rng: torch.Generator) -> None:
    fixed = scan(rng)
    torch.testing.assert_close(HistogramMatching(256, 100_000, 0.0)(fixed, fixed.clone())[1], fixed)


def test_scans_of_a_few_intensities_keep_them_apart() -> None:
    fixed = torch.arange(4.0).repeat_interleave(600).view(1, 1, 24, 10, 10)
    _, matched = HistogramMatching(256, 100_000, 0.0)(fixed, 7 * fixed.square())
    torch.testing.assert_close(matched, fixed)


@pytest.mark.parametrize("empty", ["fixed", "moving"])
def test_a_scan_with_hardly_any_foreground_leaves_intensities_as_they_are(
    empty: str, rng: torch.Generator
) -> None:
    images = {"fixed": scan(rng), "moving": 2 * scan(rng)}
    images[empty] = torch.zeros(1, 1, *SHAPE)
    images[empty][..., 3, 3, :] = 0.4
    _, matched = HistogramMatching(256, 100_000, 0.0)(**images)
    assert torch.equal(matched, images["moving"])


def test_every_pair_is_mapped_by_itself(rng: torch.Generator) -> None:
    fixed = scan(rng, pairs=2)
    moving = torch.cat([5 * fixed[:1] ** 1.7, fixed[1:] ** 0.6])
    match = HistogramMatching(256, 100_000, 0.0)
    _, both = match(fixed, moving)
    torch.testing.assert_close(both, fixed, atol=4e-3, rtol=0)
    singles = [match(fixed[n : n + 1], moving[n : n + 1])[1] for n in range(2)]
    assert torch.equal(both, torch.cat(singles))


def test_traces_of_the_foreground_at_its_edge_are_not_counted(rng: torch.Generator) -> None:
    """Interpolation leaves more of them at another resolution; tissues keep their intensity."""
    fixed = torch.rand(1, 1, 16, 18, 20, generator=rng) * 0.5 + 0.5
    fixed[:, :, :6] = 0
    moving = fixed.clone()
    moving[:, :, 2:6] = 0.05 * torch.rand(1, 1, 4, 18, 20, generator=rng)
    _, matched = HistogramMatching(256, 100_000, background=0.1)(fixed, moving)
    torch.testing.assert_close(matched[:, :, 6:], fixed[:, :, 6:], atol=1e-5, rtol=0)
    assert (matched[:, :, 2:6] <= 0.05 + 1e-5).all()
    _, counted = HistogramMatching(256, 100_000, background=0.0)(fixed, moving)
    assert (counted[:, :, 6:] - fixed[:, :, 6:]).abs().mean() > 0.02
