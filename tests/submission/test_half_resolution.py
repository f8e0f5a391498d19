import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, zoom

from l2reg.geometry.resize import resample
from l2reg.submission.half_resolution import fit_half_resolution, upsampling_matrix

SHAPE = (20, 36, 24)
HALF = (10, 18, 12)


def official(samples: torch.Tensor) -> np.ndarray:
    return np.stack([zoom(component.numpy(), 2, order=2) for component in samples[0]])


def smooth_field(random: np.random.Generator, sigma: float) -> torch.Tensor:
    noise = gaussian_filter(random.normal(size=(3, *SHAPE)), (0, sigma, sigma, sigma))
    return torch.from_numpy(3 * noise / noise.std())[None]


def test_the_matrix_is_scipys_zoom(random: np.random.Generator) -> None:
    samples = random.normal(size=18)
    np.testing.assert_allclose(
        upsampling_matrix(18) @ samples, zoom(samples, 2, order=2), atol=1e-12
    )


def test_what_can_be_submitted_exactly_is(random: np.random.Generator) -> None:
    samples = torch.from_numpy(random.normal(size=(1, 3, *HALF)))
    full = torch.from_numpy(official(samples))[None]
    torch.testing.assert_close(fit_half_resolution(full), samples, atol=1e-10, rtol=0)


@pytest.mark.parametrize(("sigma", "part"), [(1.0, 0.9), (2.0, 0.8), (4.0, 0.8)])
def test_the_official_up_sampling_restores_more_than_from_plain_samples(
    sigma: float, part: float, random: np.random.Generator
) -> None:
    full = smooth_field(random, sigma)

    def error(samples: torch.Tensor) -> float:
        return float(np.sqrt(np.mean((official(samples) - full[0].numpy()) ** 2)))

    assert error(fit_half_resolution(full)) < part * error(resample(full, HALF))


def test_no_other_samples_restore_more(random: np.random.Generator) -> None:
    """The error is orthogonal to all that the samples can change."""
    full = smooth_field(random, 1.0)
    error = official(fit_half_resolution(full)) - full[0].numpy()
    change = official(torch.from_numpy(random.normal(size=(1, 3, *HALF))))
    cosine = (error * change).sum() / np.linalg.norm(error) / np.linalg.norm(change)
    assert abs(cosine) < 1e-10
