import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from l2reg.features.histogram_matching import HistogramMatching
from l2reg.features.smooth_gain import SmoothGain

SHAPE = (24, 30, 36)


def matching() -> HistogramMatching:
    return HistogramMatching(256, 100_000, 0.1)


def smooth_gain(**settings: float) -> SmoothGain:
    values = {"background": 0.1, "outlier": 0.1, "anatomy": 0.04, "iterations": 3, **settings}
    return SmoothGain(matching(), values["background"], values["outlier"], values["anatomy"],
                      int(values["iterations"]))  # fmt: skip


def tissues(seed: int) -> np.ndarray:
    """Return an ellipsoid of three tissues of about 0.3, 0.5 and 0.7 in a background of 0."""
    rng = np.random.default_rng(seed)
    shapes = gaussian_filter(rng.standard_normal(SHAPE), 1.5)
    classes = np.digitize(shapes, np.quantile(shapes, [0.2, 0.5]))
    image = np.array([0.3, 0.5, 0.7])[classes] + 0.03 * rng.standard_normal(SHAPE)
    ellipsoid = sum(x**2 for x in positions()) < 0.9
    return (gaussian_filter(image, 0.5) * ellipsoid).astype(np.float32)


def positions() -> list[np.ndarray]:
    return np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")


def quadratic_bias() -> np.ndarray:
    i, j, k = positions()
    logarithm = 0.05 + 0.3 * j - 0.15 * i + 0.2 * k * k - 0.1 * i * j
    return np.exp(logarithm).astype(np.float32)


def as_image(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))[None, None]


def log_ratio(gain: torch.Tensor, true: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return the logarithm of a gain over the true one, up to the factor that matching removes."""
    difference = np.log(gain[0, 0].numpy() / true)[inside]
    return difference - difference.mean()


def test_the_gain_makes_up_for_a_quadratic_bias_of_the_moving_scan() -> None:
    scan, bias = tissues(0), quadratic_bias()
    gain = smooth_gain().gain(as_image(scan), as_image(scan * bias))
    assert np.abs(log_ratio(gain, 1 / bias, scan > 0)).max() < 0.02


def test_a_bias_of_the_fixed_scan_is_given_to_the_moving_scan() -> None:
    scan, bias = tissues(0), quadratic_bias()
    gain = smooth_gain().gain(as_image(0.8 * scan * bias), as_image(scan))
    assert np.abs(log_ratio(gain, bias, scan > 0)).max() < 0.03


def test_the_bias_is_found_between_scans_of_other_anatomy() -> None:
    fixed, moving, bias = tissues(0), tissues(1), quadratic_bias()
    gain = smooth_gain().gain(as_image(fixed), as_image(moving * bias))
    assert log_ratio(gain, 1 / bias, moving > 0).std() < 0.15 * np.log(bias)[moving > 0].std()


def test_anatomy_that_differs_is_hardly_taken_for_a_gain() -> None:
    gain = smooth_gain().gain(as_image(tissues(0)), as_image(tissues(1)))
    assert log_ratio(gain, np.ones(SHAPE), tissues(1) > 0).std() < 0.01


def test_scans_that_differ_by_a_bias_have_equal_intensities_after_it() -> None:
    scan = tissues(0)
    fixed, moving = smooth_gain()(as_image(scan), as_image(scan * quadratic_bias()))
    assert torch.equal(fixed, as_image(scan))
    matched = matching()(as_image(scan), as_image(scan * quadratic_bias()))[1]
    assert (moving - fixed).abs().mean() < 0.1 * (matched - fixed).abs().mean()


@pytest.mark.parametrize("exponent", [0.4, 2.0, 3.0])
def test_scans_that_differ_by_a_power_have_equal_intensities_after_it(exponent: float) -> None:
    scan = np.clip(tissues(0), 0, 1)
    fixed, moving = smooth_gain()(as_image(scan), as_image(scan**exponent))
    inside = as_image(scan) > 0.2
    assert float((fixed - moving)[inside].abs().quantile(0.95)) < 0.03


def test_other_anatomy_of_another_power_gets_its_own_intensities_back() -> None:
    fixed, moving = tissues(0), np.clip(tissues(1), 0, 1)
    _, found = smooth_gain()(as_image(fixed), as_image(moving**3))
    inside = moving > 0.2
    assert np.quantile(np.abs(found[0, 0].numpy() - moving)[inside], 0.95) < 0.1


def test_a_power_is_at_most_three_whatever_the_contrast() -> None:
    scan = np.clip(tissues(0), 0, 1)
    inverted = np.where(scan > 0, 0.2 + 0.1 * np.exp(-scan), 0).astype(np.float32)
    gain = smooth_gain().gain(as_image(scan), as_image(inverted))[0, 0].numpy()
    power = np.log(gain[scan > 0.2] * inverted[scan > 0.2]) / np.log(inverted[scan > 0.2])
    assert power.max() < 3.9  # threefold, and the smooth gain


def test_a_contrast_that_differs_a_little_is_left_to_matching() -> None:
    scan = np.clip(tissues(0), 0, 1)
    gain = smooth_gain().gain(as_image(scan), as_image(scan**1.2))
    assert np.abs(log_ratio(gain, np.ones_like(scan), scan > 0.2)).max() < 0.02


def test_every_pair_of_a_batch_has_a_gain_of_its_own() -> None:
    scan, bias = as_image(tissues(0)), as_image(quadratic_bias())
    extractor = smooth_gain()
    alone = [extractor(scan, scan * bias)[1], extractor(scan, scan / bias)[1]]
    both = extractor(torch.cat([scan, scan]), torch.cat([scan * bias, scan / bias]))[1]
    torch.testing.assert_close(both, torch.cat(alone))


@pytest.mark.parametrize("shape", [(24, 30, 36), (150, 24, 1)])
def test_empty_scans_and_single_slices_keep_their_intensities(shape: tuple[int, ...]) -> None:
    empty = torch.zeros(1, 1, *shape)
    assert torch.equal(smooth_gain().gain(empty, empty), torch.ones_like(empty))
    flat = torch.full_like(empty, 0.5)
    torch.testing.assert_close(smooth_gain().gain(flat, flat), torch.ones_like(empty))


def test_the_gain_is_at_most_threefold() -> None:
    scan = tissues(0)
    steep = np.exp(4 * positions()[1]).astype(np.float32)
    gain = smooth_gain().gain(as_image(scan), as_image(scan * steep))
    assert gain.min() > 1 / 3.1
    assert gain.max() < 3.1


@pytest.mark.parametrize("wrong", [{"outlier": 0.0}, {"anatomy": 0.0}, {"iterations": 0}])
def test_settings_out_of_range_are_told(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        smooth_gain(**wrong)
