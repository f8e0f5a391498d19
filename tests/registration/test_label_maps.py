import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from l2reg.registration.label_maps import is_label_map, is_scan

SHAPE = (30, 24, 18)


@pytest.fixture
def scan(random: np.random.Generator) -> np.ndarray:
    scan = gaussian_filter(random.normal(size=SHAPE), 2.0)
    return scan / np.abs(scan).max()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_regions_of_few_whole_numbers_are_a_label_map(scan: np.ndarray, dtype: type) -> None:
    assert is_label_map((scan > 0.1).astype(dtype) * 7)
    assert is_label_map(np.digitize(scan, [0.0, 0.2, 0.4]).astype(dtype))


def test_scans_are_none(scan: np.ndarray, random: np.random.Generator) -> None:
    noise = random.normal(size=SHAPE)
    assert not is_label_map(scan)
    assert not is_label_map((1000 * scan).round())
    assert not is_label_map((120 + 100 * scan + 5 * noise).astype(np.uint8))
    assert not is_label_map(np.where(scan > 0, 120 + 100 * scan + 5 * noise, 0).astype(np.uint8))
    assert not is_label_map(np.zeros(SHAPE))
    assert not is_label_map(np.full(SHAPE, np.nan))


def test_whole_numbers_without_regions_are_a_scan(
    scan: np.ndarray, random: np.random.Generator
) -> None:
    noise = random.normal(size=SHAPE)
    assert is_scan((1000 * scan).round().astype(np.int16))
    assert is_scan((500 + 300 * scan + 5 * noise).astype(np.uint16))
    assert is_scan(np.where(scan > 0, 500 + 300 * scan + 5 * noise, 0).astype(np.uint16))


def test_label_maps_are_no_scan_however_many_labels_they_have(scan: np.ndarray) -> None:
    blocks = np.arange(5 * 6 * 6).reshape(5, 6, 6) * 31
    atlas = blocks.repeat(6, axis=0).repeat(4, axis=1).repeat(3, axis=2)
    assert atlas.shape == SHAPE
    assert not is_scan(atlas)
    assert not is_scan((scan > 0.1).astype(np.uint8) * 7)
    assert not is_scan(np.zeros(SHAPE, np.uint8))
