import numpy as np
import pytest
import torch

from l2reg.features.histogram_matching import HistogramMatching
from l2reg.features.intensity_and_gradient import IntensityAndGradient, gradient_magnitude

SHAPE = (13, 9, 15)
MATCHING = HistogramMatching(256, 100_000, 0.0)


def test_the_magnitude_is_that_of_numpys_gradient(rng: torch.Generator) -> None:
    image = torch.rand(2, 1, *SHAPE, generator=rng)
    expected = [np.linalg.norm(np.gradient(each[0].numpy()), axis=0) for each in image]
    found = gradient_magnitude(image)[:, 0].numpy()
    np.testing.assert_allclose(found, np.stack(expected), atol=1e-6)


def test_the_magnitude_within_one_plane_is_that_of_the_plane(rng: torch.Generator) -> None:
    image = torch.rand(1, 1, 7, 1, 9, generator=rng)
    expected = np.linalg.norm(np.gradient(image[0, 0, :, 0].numpy()), axis=0)
    np.testing.assert_allclose(gradient_magnitude(image)[0, 0, :, 0].numpy(), expected, atol=1e-6)


def test_intensities_have_the_deviation_and_the_gradient_its_weight(rng: torch.Generator) -> None:
    fixed = torch.rand(2, 1, *SHAPE, generator=rng)
    fixed[:, :, :4] = 0
    features = IntensityAndGradient(MATCHING, 0.0, 0.25, 3.0)
    found, _ = features(fixed, fixed.flip(2))
    for n in range(2):
        inside = fixed[n, 0].numpy() > 0
        np.testing.assert_allclose(found[n, 0].numpy()[inside].std(), 0.25, rtol=1e-5)
        gradient = np.linalg.norm(np.gradient(found[n, 0].numpy()), axis=0)
        np.testing.assert_allclose(found[n, 1].numpy(), 3 * gradient, atol=1e-6)


@pytest.mark.parametrize("gain", [0.2, 30.0])
def test_the_scale_of_both_scans_has_no_influence(gain: float, rng: torch.Generator) -> None:
    fixed, moving = torch.rand(2, 1, 1, *SHAPE, generator=rng)
    features = IntensityAndGradient(MATCHING, 0.0, 0.16, 1.0)
    for found, expected in zip(
        features(gain * fixed, gain * moving), features(fixed, moving), strict=True
    ):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_a_scan_without_contrast_keeps_its_intensities() -> None:
    flat = torch.full((1, 1, *SHAPE), 0.7)
    found, _ = IntensityAndGradient(MATCHING, 0.0, 0.16, 1.0)(flat, flat)
    torch.testing.assert_close(found[:, :1], flat)
    assert (found[:, 1] == 0).all()


@pytest.mark.parametrize("values", [(0.0, 1.0), (0.16, -1.0)])
def test_wrong_values_are_refused(values: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=f"got {values[0]}, {values[1]}"):
        IntensityAndGradient(MATCHING, 0.0, *values)
