import math

import numpy as np
import pytest
from scipy.ndimage import correlate, gaussian_filter

from l2reg.evaluation.volume_change import (
    LARGEST_SAFE_CHANGE,
    determinants,
    folded_volume,
    volume_change,
)


def rough(random: np.random.Generator, size: float) -> np.ndarray:
    noise = random.normal(size=(3, 14, 17, 12))
    smooth = np.stack([gaussian_filter(c, 1.5) for c in noise])
    return (size * smooth / smooth.std()).astype(np.float32)


def official_determinant(disp: np.ndarray) -> np.ndarray:
    """The organisers' steps: correlations with (-0.5, 0, 0.5), then the determinant."""
    kernel = np.array([-0.5, 0, 0.5])
    jacobian = np.empty((3, 3, *disp.shape[1:]))
    for component in range(3):
        for axis in range(3):
            along = kernel.reshape([-1 if a == axis else 1 for a in range(3)])
            jacobian[component, axis] = correlate(disp[component], along, mode="constant")
        jacobian[component, component] += 1
    det: np.ndarray = np.linalg.det(np.moveaxis(jacobian, (0, 1), (-2, -1)))
    return det[2:-2, 2:-2, 2:-2]


@pytest.mark.parametrize("size", [0.5, 6.0])
def test_the_organisers_steps_give_the_same_numbers(
    size: float, random: np.random.Generator
) -> None:
    disp = rough(random, size)
    official = official_determinant(disp)
    log = np.log(np.clip(official + 3, 1e-9, 1e9))
    mask = random.random(disp.shape[1:]) > 0.4
    assert volume_change(disp).sdlogj == pytest.approx(log.std(), abs=1e-6)
    inside = log[mask[2:-2, 2:-2, 2:-2]]
    assert volume_change(disp, mask).sdlogj == pytest.approx(inside.std(), abs=1e-6)
    plain = np.log(np.clip(official, 1e-9, 1e9)).std()
    assert volume_change(disp).sd_log_det == pytest.approx(plain, rel=1e-4)
    np.testing.assert_allclose(determinants(disp)[1:-1, 1:-1, 1:-1], official, atol=1e-4)


def test_slabs_leave_no_seam(random: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    disp = rough(random, 3.0)
    mask = random.random(disp.shape[1:]) > 0.4
    whole, whole_masked = volume_change(disp), volume_change(disp, mask)
    monkeypatch.setattr("l2reg.evaluation.metrics._SLAB_VOXELS", 1)
    for pieces, one in ((volume_change(disp), whole), (volume_change(disp, mask), whole_masked)):
        np.testing.assert_allclose(list(vars(pieces).values()), list(vars(one).values()), rtol=1e-6)


@pytest.mark.parametrize(
    ("stretch", "det", "log"),
    [(0.1, 1.1, np.log(4.1)), (-2.0, -1.0, np.log(2)), (-6.0, -5.0, np.log(1e-9))],
)
def test_determinants_are_raw_and_their_logarithm_is_of_3_more(
    stretch: float, det: float, log: float
) -> None:
    disp = np.zeros((3, 18, 11, 12))
    disp[0] = stretch * np.minimum(np.arange(18.0), 9).reshape(18, 1, 1)
    found = determinants(disp)
    assert found.shape == (16, 9, 10)
    assert found[0, 0, 0] == pytest.approx(det)
    change = volume_change(disp)
    assert min(change.det_min, change.det_max) <= det <= max(change.det_max, change.det_min)
    # 14 planes count: 7 stretched, one with half of it, 6 at rest
    half = np.log(max(1 + stretch / 2 + 3, 1e-9))
    expected = np.array([log] * 7 + [half] + [np.log(4)] * 6)
    assert change.sdlogj == pytest.approx(expected.std())


def test_the_zero_field_changes_nothing() -> None:
    change = volume_change(np.zeros((3, 8, 9, 10), np.float32))
    assert abs(change.sdlogj) < 1e-12
    assert (change.folds, change.det_min, change.det_max, change.folded_volume) == (0, 1, 1, 0)


def test_folds_are_the_voxels_whose_determinant_is_not_positive(
    random: np.random.Generator,
) -> None:
    disp = rough(random, 6.0)
    change, det = volume_change(disp), determinants(disp)
    assert 0 < change.folds == pytest.approx((det <= 0).mean())
    assert (change.det_min, change.det_max) == (det.min(), det.max())


def test_a_mask_that_leaves_nothing_has_no_spread() -> None:
    nowhere = np.zeros((8, 9, 10), bool)
    assert math.isnan(volume_change(np.zeros((3, 8, 9, 10)), nowhere).sdlogj)


def test_what_takes_long_is_left_out_on_request() -> None:
    change = volume_change(np.zeros((3, 8, 9, 10)), tetrahedra=False)
    assert math.isnan(change.folded_volume)


def tetrahedron(corners: np.ndarray) -> float:
    return float(np.linalg.det(corners[1:] - corners[0])) / 6


def naive_folded_volume(disp: np.ndarray) -> float:
    """Every tetrahedron of every cell, one after the other, in both ways to divide a cube."""
    total, cells = 0.0, [size - 1 for size in disp.shape[1:]]
    for cell in np.ndindex(*cells):
        for parity in (0, 1):
            inner = [c for c in np.ndindex(2, 2, 2) if sum(c) % 2 == parity]
            outer = [c for c in np.ndindex(2, 2, 2) if sum(c) % 2 != parity]
            pieces = [inner] + [
                [c, *(n for n in inner if np.abs(np.subtract(n, c)).sum() == 1)] for c in outer
            ]
            for piece in pieces:
                corners = np.array(piece, float)
                displaced = corners + [
                    disp[(slice(None), *np.add(cell, corner))] for corner in piece
                ]
                sign = np.sign(tetrahedron(corners))
                total += max(0.0, -sign * tetrahedron(displaced)) / 2
    return total / float(np.prod(cells))


def test_the_folded_volume_is_that_of_the_tetrahedra_inside_out(
    random: np.random.Generator,
) -> None:
    disp = rough(random, 4.0)[:, :6, :7, :5]
    expected = naive_folded_volume(disp)
    assert expected > 0
    assert folded_volume(disp) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("scale", [0.5, 0.6, 0.7])
def test_few_folds_among_many_cells_are_found(random: np.random.Generator, scale: float) -> None:
    disp = scale * random.uniform(-1, 1, (3, 5, 6, 4)).astype(np.float32)
    expected = naive_folded_volume(disp)
    assert 0 < expected < 0.25
    assert folded_volume(disp) == pytest.approx(expected, rel=1e-5)


def test_cells_whose_edges_change_little_do_not_fold(random: np.random.Generator) -> None:
    for _ in range(100):
        disp = random.choice([-1.0, 0.0, 1.0], (3, 2, 2, 2))
        changes = [np.abs(np.diff(disp, axis=1 + axis)).sum(axis=0).max() for axis in range(3)]
        disp *= LARGEST_SAFE_CHANGE / max(1.0, *changes)
        assert naive_folded_volume(disp) == 0


def test_a_mirrored_volume_is_folded_as_a_whole() -> None:
    disp = np.zeros((3, 6, 7, 8))
    disp[0] = -2 * np.arange(6.0).reshape(6, 1, 1)
    assert folded_volume(disp) == pytest.approx(1.0)
    assert volume_change(disp).folds == 1
