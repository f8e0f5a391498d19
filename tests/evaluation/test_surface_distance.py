import json
from pathlib import Path

import numpy as np
import pytest
import surface_distance
from scipy.ndimage import gaussian_filter
from surface_distance import lookup_tables

from l2reg.evaluation.surface_distance import (
    CORNERS,
    SurfaceDistances,
    assd,
    element_areas,
    hausdorff,
    surface_distances,
)
from l2reg.shapes import Spacing

ONES = (1.0, 1.0, 1.0)
SPACINGS = [(1.0, 1.0, 1.0), (1.75, 1.25, 1.75), (1.0, 1.0, 5.0), (0.3, 2.0, 7.0)]


def hd95(first: np.ndarray, second: np.ndarray, spacing: Spacing = ONES) -> float:
    return hausdorff(*surface_distances(first, second, spacing), 95)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_the_areas_are_those_of_the_organisers_table(spacing: Spacing) -> None:
    table = lookup_tables.create_table_neighbour_code_to_surface_area(spacing)
    kernel = lookup_tables.ENCODE_NEIGHBOURHOOD_3D_KERNEL
    bits = [int(np.log2(kernel[corner])) for corner in CORNERS]
    ours = element_areas(spacing)
    for code in range(256):
        same = sum((code >> bit & 1) << own for own, bit in enumerate(bits))
        assert ours[same] == pytest.approx(table[code], abs=1e-12)


def test_a_large_ball_has_the_area_of_a_ball() -> None:
    n, radius = 49, 18.0
    grid = np.indices((n, n, n)) - n // 2
    distances, _ = surface_distances(
        (grid**2).sum(axis=0) <= radius**2, np.ones((n, n, n), bool), (1.0, 1.0, 1.0)
    )
    assert distances.area.sum() == pytest.approx(4 * np.pi * radius**2, rel=0.1)


def naive(first: np.ndarray, second: np.ndarray, spacing: Spacing) -> float:
    """Every surface element of one mask to every one of the other."""

    def elements(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        padded = np.pad(mask, 1)
        positions, areas = [], []
        for corner in np.ndindex(*[size - 1 for size in padded.shape]):
            inside = [padded[tuple(np.add(corner, offset))] for offset in CORNERS]
            if any(inside) and not all(inside):
                positions.append(np.array(corner) * spacing)
                areas.append(element_areas(spacing)[sum(b << n for n, b in enumerate(inside))])
        return np.array(positions), np.array(areas)

    def percentile(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> float:
        nearest = np.linalg.norm(a[0][:, None] - b[0][None], axis=2).min(axis=1)
        order = np.argsort(nearest, kind="stable")
        fraction = np.cumsum(a[1][order]) / a[1].sum()
        return float(nearest[order][np.searchsorted(fraction, 0.95)])

    one, two = elements(first), elements(second)
    return max(percentile(one, two), percentile(two, one))


@pytest.mark.parametrize("spacing", SPACINGS)
def test_a_naive_loop_over_all_elements_agrees(
    spacing: Spacing, random: np.random.Generator
) -> None:
    for _ in range(3):
        first, second = (
            gaussian_filter(random.normal(size=(8, 9, 10)), 1.5) > 0.05 for _ in range(2)
        )
        assert hd95(first, second, spacing) == pytest.approx(naive(first, second, spacing))


def balls(random: np.random.Generator, apart: float) -> tuple[np.ndarray, np.ndarray]:
    grid = np.indices((28, 30, 32))
    centre = np.array([14, 15, 16]).reshape(3, 1, 1, 1)
    first = ((grid - centre) ** 2).sum(axis=0) < 25
    second = ((grid - centre - apart) ** 2).sum(axis=0) < 25
    return first ^ (random.random(first.shape) > 0.999), second


@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")  # theirs
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("apart", [0.0, 1.0, 6.0])
def test_near_and_far_surfaces_measure_as_the_organisers_library_does(
    spacing: Spacing, apart: float, random: np.random.Generator
) -> None:
    first, second = balls(random, apart)
    official = surface_distance.compute_surface_distances(first, second, spacing)
    forward, backward = surface_distances(first, second, spacing)
    for percent in (50, 95, 100):
        expected = surface_distance.compute_robust_hausdorff(official, percent)
        assert hausdorff(forward, backward, percent) == pytest.approx(expected, abs=1e-9)
    means = surface_distance.compute_average_surface_distance(official)
    assert (forward.mean(), backward.mean()) == pytest.approx(means, abs=1e-8)
    areas = forward.area.sum(), backward.area.sum()
    expected = (means[0] * areas[0] + means[1] * areas[1]) / sum(areas)
    assert assd(forward, backward) == pytest.approx(expected, abs=1e-8)


def test_flips_padding_and_the_order_of_the_masks_do_not_matter(
    random: np.random.Generator,
) -> None:
    first, second = balls(random, 1.0)
    expected = hd95(first, second)
    assert hd95(second, first) == expected
    assert hd95(np.pad(first, 3), np.pad(second, 3)) == expected
    for axis in range(3):
        assert hd95(np.flip(first, axis), np.flip(second, axis)) == expected


def test_equal_masks_are_0_apart_and_shifted_ones_by_the_shift() -> None:
    mask = np.zeros((20, 21, 22), bool)
    mask[3:9, 4:12, 5:13] = True
    assert hd95(mask, mask) == 0
    assert hd95(mask, np.roll(mask, 4, axis=1)) == 4
    assert hd95(mask, np.roll(mask, 4, axis=1), (1.0, 2.5, 1.0)) == 10


def test_the_border_of_the_volume_is_a_surface_too() -> None:
    mask = np.zeros((6, 7, 8), bool)
    mask[0] = True
    other = np.zeros_like(mask)
    other[1] = True
    assert hd95(mask, other) == 1


@pytest.mark.parametrize("first_empty", [True, False])
def test_a_mask_that_vanished_is_infinitely_far_away(first_empty: bool) -> None:
    mask = np.zeros((5, 6, 7), bool)
    mask[2, 2, 2] = True
    pair = (np.zeros_like(mask), mask) if first_empty else (mask, np.zeros_like(mask))
    assert hd95(*pair) == np.inf


def test_two_empty_masks_have_no_surface() -> None:
    empty = np.zeros((5, 6, 7), bool)
    distances, other = surface_distances(empty, empty, ONES)
    assert isinstance(distances, SurfaceDistances)
    assert np.isnan(assd(distances, other))
    assert np.isnan(distances.mean())
    assert distances.percentile(95) == np.inf


@pytest.mark.golden
def test_the_official_values_of_hard_masks(golden: Path) -> None:
    expected = json.loads((golden / "hd95/expected.json").read_text())
    masks = np.load(golden / "hd95/masks.npz")
    checked = 0
    for name, by_spacing in expected.items():
        first, second = masks[f"{name}_gt"] > 0, masks[f"{name}_pred"] > 0
        for spacing, values in by_spacing.items():
            if spacing == "dice":
                continue
            i, j, k = (float(size) for size in spacing.split("x"))
            forward, backward = surface_distances(first, second, (i, j, k))
            ours = {
                "hd95": hausdorff(forward, backward, 95),
                "hd100": hausdorff(forward, backward, 100),
                "asd_gt_to_pred": forward.mean(),
                "asd_pred_to_gt": backward.mean(),
            }
            for metric, value in values.items():
                tolerance = 1e-8 if metric.startswith("asd") else 1e-9
                np.testing.assert_allclose(ours[metric], float(value), rtol=0, atol=tolerance)
                checked += 1
    assert checked > 200
