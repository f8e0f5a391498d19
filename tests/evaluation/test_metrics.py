import numpy as np
import pytest

from l2reg.evaluation.metrics import determinant, dice, sdlogj, tre_mm, upsample, warp_labels

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
    det = determinant(WAVE)
    inner = det[1:-1, 1:-1, 1:-1]
    assert inner.min() == pytest.approx(0.5983713792994906, abs=1e-9)
    assert inner.max() == pytest.approx(1.4844629774888156, abs=1e-9)
    assert inner.mean() == pytest.approx(1.000224252839286, abs=1e-9)
    assert sdlogj(det) == pytest.approx(0.04683278339276128, abs=1e-9)
    assert sdlogj(det, ball((20, 18, 16), 12)) == pytest.approx(0.0374084444466769, abs=1e-9)


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


@pytest.mark.parametrize(
    ("stretch", "det", "log"),
    [(0.1, 1.1, np.log(4.1)), (-2.0, -1.0, np.log(2)), (-6.0, -5.0, np.log(1e-9))],
)
def test_determinants_are_raw_and_their_logarithm_is_of_3_more(
    stretch: float, det: float, log: float
) -> None:
    disp = np.zeros((3, 10, 11, 12))
    disp[0] = stretch * np.arange(10.0).reshape(10, 1, 1)
    disp[0, 5:] = 0  # half of the volume stays, so that there is a spread to measure
    found = determinant(disp)
    assert found.shape == (8, 9, 10)
    assert found[0, 0, 0] == pytest.approx(det)
    inner = found[1:3, 1:-1, 1:-1]
    both = np.concatenate([inner, np.ones_like(inner)])
    padded = np.pad(both, 1)
    assert sdlogj(padded) == pytest.approx(abs(log - np.log(4)) / 2)


def test_a_label_in_neither_map_has_no_overlap() -> None:
    empty = np.zeros((3, 4, 5), np.uint8)
    assert dice(empty, empty, [7]) == {7: 0.0}
