import numpy as np
import pytest

from l2reg.data.intensity import Percentiles, PercentilesAboveNoise, Window


def test_a_window_maps_its_ends_to_0_and_1_and_clips_the_rest() -> None:
    hu = np.array([[[-2000.0, -1000.0, -400.0, 200.0, 3000.0]]], dtype=np.float32)
    expected = [[[0.0, 0.0, 0.5, 1.0, 1.0]]]
    np.testing.assert_allclose(Window(low=-1000.0, high=200.0)(hu), expected, atol=1e-6)


def test_air_is_0_so_that_zero_padding_means_air() -> None:
    assert Window(low=-1000.0, high=200.0)(np.full((1, 1, 1), -1000, np.float32)) == 0


def test_percentiles_are_those_of_the_voxels_that_are_not_zero() -> None:
    image = np.zeros((5, 6, 7), np.float32)
    image[2:] = np.arange(1, 3 * 42 + 1).reshape(3, 6, 7)
    low, high = np.percentile(image[image != 0], [10, 90])
    scaled = Percentiles(low=10.0, high=90.0)(image)
    assert (scaled[:2] == 0).all()
    inside = (image > low) & (image < high)
    expected = (image[inside] - low) / (high - low)
    np.testing.assert_allclose(scaled[inside], expected, atol=1e-6)
    assert scaled.min() == 0
    assert scaled.max() == 1


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_a_flat_scan_is_finite(value: float) -> None:
    scaled = Percentiles(low=1.0, high=99.0)(np.full((3, 4, 5), value, np.float32))
    assert np.isfinite(scaled).all()


def test_impossible_limits_are_refused() -> None:
    with pytest.raises(ValueError, match=r"low < high, got low=1\.0, high=1\.0"):
        Window(low=1.0, high=1.0)
    with pytest.raises(ValueError, match="0 <= low < high <= 100"):
        Percentiles(low=50.0, high=101.0)


def test_percentiles_can_be_taken_from_a_part_of_the_scan(random: np.random.Generator) -> None:
    """Of two fields of view the common part alone says which window fits both."""
    whole = random.uniform(1, 2, (8, 9, 10)).astype(np.float32)
    whole[5:] *= 7
    part = whole[:5]
    region = np.zeros(whole.shape, dtype=bool)
    region[:5] = True
    window = Percentiles(low=1.0, high=99.0)
    np.testing.assert_allclose(window(whole, region)[:5], window(part), rtol=1e-6)
    assert not np.allclose(window(whole)[:5], window(part), atol=0.1)


def test_zero_hounsfield_units_are_no_background(random: np.random.Generator) -> None:
    """A CT and the same CT in another zero point look alike."""
    hu = random.integers(-1000, 200, (8, 9, 10)).astype(np.float32)
    hu[3:5] = 0
    window = Percentiles(low=1.0, high=99.0)
    np.testing.assert_allclose(window(hu), window(hu + 1024), atol=1e-5)
    low, high = np.percentile(hu, [1, 99])
    np.testing.assert_allclose(window(hu)[3:5], -low / (high - low), rtol=1e-5)


def test_undershoots_of_interpolation_leave_zero_the_background(
    random: np.random.Generator,
) -> None:
    mr = random.uniform(50, 100, (8, 9, 10)).astype(np.float32)
    mr[:4] = 0
    mr[4, :3] = -2
    assert (Percentiles(low=1.0, high=99.0)(mr)[:4] == 0).all()


def head(random: np.random.Generator) -> np.ndarray:
    """Return a box of 0.5 to 1 that fills an eighth of a volume of 0."""
    image = np.zeros((32, 36, 40), np.float32)
    image[8:24, 9:27, 10:30] = random.uniform(0.5, 1, (16, 18, 20))
    return image


ABOVE_NOISE = PercentilesAboveNoise(low=0.5, high=99.5)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("kind", ["gaussian", "rician"])
def test_the_level_of_a_noisy_background_becomes_0(
    kind: str, *, whole: bool, random: np.random.Generator
) -> None:
    clean = head(random)
    real, imaginary = 0.04 * random.standard_normal((2, *clean.shape)).astype(np.float32)
    noisy = clean + real if kind == "gaussian" else np.hypot(clean + real, imaginary)
    noisy = np.round(700 * noisy) if whole else noisy
    scaled = ABOVE_NOISE(noisy.astype(np.float32))
    assert (scaled[clean == 0] > 0.1).mean() < 0.05
    inside = clean > 0
    assert np.corrcoef(scaled[inside], clean[inside])[0, 1] > 0.9
    np.testing.assert_allclose(scaled[inside].mean(), 0.75, atol=0.06)


@pytest.mark.parametrize("offset", [0.0, 0.3])
def test_a_masked_background_changes_nothing(offset: float, random: np.random.Generator) -> None:
    image = head(random) + np.float32(offset)
    expected = Percentiles(low=0.5, high=99.5)(image)
    np.testing.assert_array_equal(ABOVE_NOISE(image), expected)


def test_a_scan_without_dark_surroundings_is_scaled_by_percentiles(
    random: np.random.Generator,
) -> None:
    image = random.normal(5, 0.3, (12, 13, 14)).astype(np.float32)
    image[:6] = random.uniform(3, 8, (6, 13, 14))
    expected = Percentiles(low=0.5, high=99.5)(image)
    np.testing.assert_array_equal(ABOVE_NOISE(image), expected)


def test_noise_is_told_by_the_region_alone(random: np.random.Generator) -> None:
    noisy = head(random) + 0.04 * random.standard_normal((32, 36, 40)).astype(np.float32)
    padded = np.zeros((32, 36, 200), np.float32)
    padded[..., :40] = noisy
    region = np.zeros(padded.shape, dtype=bool)
    region[..., :40] = True
    np.testing.assert_allclose(ABOVE_NOISE(padded, region)[..., :40], ABOVE_NOISE(noisy))


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_a_flat_scan_has_no_noise(value: float) -> None:
    scaled = ABOVE_NOISE(np.full((3, 4, 5), value, np.float32))
    assert np.isfinite(scaled).all()
