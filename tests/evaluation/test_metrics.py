import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import map_coordinates, zoom

from l2reg.evaluation.metrics import (
    dice,
    joint_histogram,
    outside_fraction,
    sample_cubic,
    tre_mm,
    warp_labels,
)
from l2reg.evaluation.volume_change import determinants, volume_change
from l2reg.submission.half_resolution import upsample

SHAPE = (40, 36, 44)
GRID = np.indices(SHAPE).astype(np.float64)
WAVE = np.stack([
    2 * np.sin(2 * np.pi * GRID[1] / 36) * np.cos(2 * np.pi * GRID[0] / 40),
    -1.5 * np.cos(2 * np.pi * GRID[2] / 44) + 0.02 * GRID[0],
    np.sin(2 * np.pi * GRID[0] / 40 + 0.5) * np.sin(2 * np.pi * GRID[2] / 44),
])  # fmt: skip


def ball(centre: tuple[int, ...], radius: int) -> np.ndarray:
    offset = GRID - np.array(centre)[:, None, None, None]
    return (offset**2).sum(axis=0) <= radius**2


def label_maps() -> tuple[np.ndarray, np.ndarray]:
    fixed, moving = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    for label, centre, radius in ((1, (12, 14, 12), 7), (2, (26, 22, 20), 6), (3, (32, 8, 24), 4)):
        fixed[ball(centre, radius)] = label
    for label, centre, radius in ((1, (13, 13, 13), 7), (2, (25, 24, 19), 6), (4, (20, 6, 6), 3)):
        moving[ball(centre, radius)] = label
    return fixed, moving


def counts(labels: np.ndarray) -> list[int]:
    return [int((labels == label).sum()) for label in (1, 2, 3, 4)]


def test_the_official_values_of_the_synthetic_case() -> None:
    """Values: the public evaluation (commit 8847509), run on this case in float64."""
    fixed, moving = label_maps()
    assert counts(fixed) == [1419, 925, 257, 0]
    warped = warp_labels(moving, WAVE)
    assert counts(warped) == [1732, 941, 0, 129]
    scores = dice(fixed, warped, [1, 2])
    assert scores[1] == pytest.approx(0.7464297048556015, abs=1e-12)
    assert scores[2] == pytest.approx(0.7759914255091104, abs=1e-12)
    inner = determinants(WAVE)[1:-1, 1:-1, 1:-1]
    assert inner.min() == pytest.approx(0.5983713792994906, abs=1e-9)
    assert inner.max() == pytest.approx(1.4844629774888156, abs=1e-9)
    assert inner.mean() == pytest.approx(1.000224252839286, abs=1e-9)
    assert volume_change(WAVE).sdlogj == pytest.approx(0.04683278339276128, abs=1e-9)
    masked = volume_change(WAVE, ball((20, 18, 16), 12))
    assert masked.sdlogj == pytest.approx(0.0374084444466769, abs=1e-9)


def test_the_official_tre_of_the_synthetic_case_outside_points_included() -> None:
    fixed = np.array([[10, 12, 14], [20.5, 24.25, 28.75], [33, 30, 5.5], [0, 0, 0], [39, 35, 31]])
    moving = fixed + np.array([1, -1, 0.5])
    spacing = (1.75, 1.25, 1.75)
    still = tre_mm(np.zeros((3, *SHAPE)), fixed, moving, spacing)
    np.testing.assert_allclose(still, 2.3217719526258387, atol=1e-9)
    expected = [2.9203369611390873, 3.1362762119412664, 3.578953678761345, 2.053959590644373,
                3.895718260680313]  # fmt: skip
    np.testing.assert_allclose(tre_mm(WAVE, fixed, moving, spacing), expected, atol=1e-9)


def test_tre_is_in_millimetres_and_knows_the_direction() -> None:
    fixed = np.array([[5.0, 5.0, 5.0]])
    moving = fixed + np.array([1, 2, 3])
    spacing = (1.0, 1.5, 2.0)
    right = np.broadcast_to(np.array([1.0, 2, 3]).reshape(3, 1, 1, 1), (3, 12, 12, 12))
    initial = float(np.hypot(np.hypot(1, 3), 6))
    assert tre_mm(0 * right, fixed, moving, spacing) == pytest.approx([initial])
    assert tre_mm(right, fixed, moving, spacing) == pytest.approx([0.0], abs=1e-9)
    assert tre_mm(-right, fixed, moving, spacing) == pytest.approx([2 * initial])


@pytest.mark.parametrize(
    ("coordinate", "label"),
    [(-0.3, 0), (0.49, 1), (0.5, 2), (1.5, 3), (3.5, 5), (4.0, 5), (4.3, 0)],
)
def test_halves_round_up_and_outside_is_background_by_however_little(
    coordinate: float, label: int
) -> None:
    labels = np.arange(1, 6, dtype=np.uint8).reshape(5, 1, 1)
    disp = np.zeros((3, 5, 1, 1))
    disp[0, 2] = coordinate - 2
    assert warp_labels(labels, disp)[2, 0, 0] == label


def test_the_official_upsampling_is_a_quadratic_spline_on_aligned_corners() -> None:
    """Values: ``scipy.ndimage.zoom(ramp, 2, order=2)``, as in the public evaluation."""
    ramp = np.zeros((3, 5, 4, 4), np.float16)
    ramp[0] = np.arange(5).reshape(5, 1, 1)
    up = upsample(ramp)
    assert up.shape == (3, 10, 8, 8)
    assert up.dtype == np.float32
    expected = [0, 0.278867, 0.866376, 1.366013, 1.790850]  # and mirrored
    expected += [4 - value for value in reversed(expected)]
    np.testing.assert_allclose(up[0, :, 3, 5], expected, atol=1e-5)


def test_a_label_in_neither_map_has_no_overlap() -> None:
    empty = np.zeros((3, 4, 5), np.uint8)
    assert dice(empty, empty, [7]) == {7: 0.0}


@pytest.mark.parametrize("shape", [(5, 4, 7), (20, 18, 22)])
def test_upsampling_is_the_organisers_to_the_precision_of_float32(
    shape: tuple[int, ...], random: np.random.Generator
) -> None:
    half = random.normal(0, 4, (3, *shape)).astype(np.float16)
    official = np.stack([zoom(c.astype(np.float32), 2, order=2) for c in half])
    np.testing.assert_allclose(upsample(half), official, rtol=0, atol=5e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cubic_sampling_is_the_organisers(dtype: type, random: np.random.Generator) -> None:
    disp = random.normal(0, 3, (3, 40, 9, 70)).astype(dtype)
    points = random.uniform(-2, [42, 11, 72], (60, 3))
    points[:3] = [[0, 0, 0], [39, 8, 69], [39, 8, 69.001]]
    tolerance = 1e-5 if dtype == np.float32 else 1e-10
    for point in points:
        official = [map_coordinates(c, point[:, None], order=3)[0] for c in disp]
        np.testing.assert_allclose(sample_cubic(disp, point), official, rtol=0, atol=tolerance)


def test_a_single_plane_is_sampled_too() -> None:
    disp = np.full((3, 1, 4, 5), 2.5)
    np.testing.assert_allclose(sample_cubic(disp, np.array([0.0, 1.5, 2.0])), 2.5)


def test_the_fraction_that_leaves_the_volume_is_counted_by_however_little() -> None:
    disp = np.zeros((3, 10, 4, 6), np.float32)
    assert outside_fraction(disp, (10, 4, 6)) == 0
    disp[0] = 0.001
    assert outside_fraction(disp, (10, 4, 6)) == pytest.approx(0.1)
    assert outside_fraction(disp, (12, 4, 6)) == 0


labelled = arrays(np.uint8, (4, 5, 3), elements=st.integers(0, 4))


@given(labelled, labelled, st.permutations([1, 2, 3, 4]))
@settings(max_examples=50, deadline=None)
def test_renaming_and_reordering_labels_renames_and_reorders_their_dice(
    fixed: np.ndarray, warped: np.ndarray, names: list[int]
) -> None:
    renamed = np.array([0, *names], np.uint8)
    before = dice(fixed, warped, [1, 2, 3, 4])
    after = dice(renamed[fixed], renamed[warped], names)
    assert list(after) == names
    assert list(before.values()) == list(after.values())


@given(labelled, labelled, st.sampled_from([0, 1, 2]))
@settings(max_examples=50, deadline=None)
def test_dice_does_not_care_for_flips_background_and_the_order_of_the_scans(
    fixed: np.ndarray, warped: np.ndarray, axis: int
) -> None:
    labels = [1, 3]
    expected = dice(fixed, warped, labels)
    assert dice(warped, fixed, labels) == expected
    assert dice(np.flip(fixed, axis), np.flip(warped, axis), labels) == expected
    assert dice(np.pad(fixed, 2), np.pad(warped, 2), labels) == expected
    for label in labels:
        a, b = fixed == label, warped == label
        volumes = a.sum() + b.sum()
        assert expected[label] == (2 * (a & b).sum() / volumes if volumes else 0)


def test_the_joint_histogram_counts_all_other_labels_as_one() -> None:
    fixed = np.array([1, 1, 2, 7, 0]).reshape(5, 1, 1)
    warped = np.array([1, 2, 2, 2, 9]).reshape(5, 1, 1)
    assert joint_histogram(fixed, warped, [2, 1]).tolist() == [[1, 1, 0], [0, 1, 0], [0, 1, 1]]


@pytest.mark.golden
def test_the_official_warp_puts_every_label_voxel_where_the_organisers_do(golden: Path) -> None:
    """The full fields move by multiples of 1/256 voxel, so that exact ties occur."""
    cases = json.loads((golden / "eval_a/expected.json").read_text())["full"]["cases"]
    for case, official in cases.items():
        moving = np.asarray(nib.load(golden / f"eval_a/labelsTr/GoldA_{case}_0001.nii.gz").dataobj)
        field = nib.load(golden / f"eval_a/fields_full/disp_{case}_{case}.nii.gz").get_fdata()
        warped = warp_labels(moving, np.moveaxis(field, 3, 0))
        for label, count in official["warped_label_counts"].items():
            assert int((warped == int(label)).sum()) == count
