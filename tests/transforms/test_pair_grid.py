import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from l2reg.io.headers import Placement
from l2reg.transforms.image_grid import ImageGrid
from l2reg.transforms.pair_grid import (
    overlap_box,
    overlap_fraction,
    pair_grids,
    scan_grid,
    working_image_grid,
)


def grid(affine: np.ndarray, shape: tuple[int, int, int] = (20, 16, 12)) -> ImageGrid:
    return ImageGrid(shape, Placement(affine))


def placed(spacing: list[float], origin: list[float]) -> np.ndarray:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    return affine


def turned(degrees: float, spacing: tuple[float, float, float], origin: list[float]) -> np.ndarray:
    affine = np.eye(4)
    rotation = Rotation.from_euler("zyx", [degrees, degrees / 2, -degrees], degrees=True)
    affine[:3, :3] = rotation.as_matrix() @ np.diag(spacing)
    affine[:3, 3] = origin
    return affine


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR", "ALS"])
def test_axes_point_right_front_and_up_and_the_middle_of_the_scan_is_kept(axes: str) -> None:
    ras = nib.Nifti1Image(np.zeros((20, 16, 12)), turned(10, (1.0, 2.0, 3.0), [5.0, -7.0, 9.0]))
    ornt = nib.orientations.axcodes2ornt(axes)
    scan = ras.as_reoriented(
        nib.orientations.ornt_transform(nib.orientations.io_orientation(ras.affine), ornt)
    )
    own = grid(scan.affine, scan.shape)
    made = scan_grid(own, (12, 16, 10), (1.5, 2.0, 4.0))
    assert nib.aff2axcodes(made.place.affine) == ("R", "A", "S")
    np.testing.assert_allclose(
        np.linalg.norm(made.place.affine[:3, :3], axis=0), [1.5, 2.0, 4.0], rtol=1e-12
    )
    cosines = (made.place.affine[:3, :3] / [1.5, 2.0, 4.0]).T @ (ras.affine[:3, :3] / [1, 2, 3])
    np.testing.assert_allclose(cosines, np.eye(3), atol=1e-12)
    middles = [
        nib.affines.apply_affine(g.place.affine, (np.array(g.shape) - 1) / 2) for g in (own, made)
    ]
    assert np.abs(middles[0] - middles[1]).max() < 3.0  # the largest voxel: the first voxel is one
    first = nib.affines.apply_affine(np.linalg.inv(scan.affine), made.place.affine[:3, 3])
    np.testing.assert_allclose(first, np.round(first), atol=1e-9)


def test_a_scan_that_is_larger_than_the_grid_keeps_what_both_show() -> None:
    fixed = grid(np.diag([1.0, 1.0, 1.0, 1.0]), (20, 20, 100))
    moving = grid(
        np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 2, 70], [0, 0, 0, 1]]), (20, 20, 10)
    )
    low, high = overlap_box(fixed, moving)  # type: ignore[misc]
    np.testing.assert_array_equal([low, high], [[0, 0, 70], [19, 19, 88]])
    made, same = pair_grids(fixed, moving, (20, 20, 30), (1.0, 1.0, 1.0), "headers")
    assert made is same
    assert made.place.affine[2, 3] == 64  # 79 is the middle of 70 and 88
    assert made.place.affine[0, 3] == 0
    apart = grid(np.diag([1.0, 1.0, 1.0, 1.0]) + 1000 * np.eye(4, k=3), (4, 4, 4))
    assert overlap_box(fixed, apart) is None


def test_centres_lie_on_each_other_wherever_the_headers_are() -> None:
    fixed = grid(turned(0, (1.0, 1.0, 1.0), [0.0, 0.0, 0.0]), (11, 11, 11))
    moving = grid(turned(30, (2.0, 2.0, 2.0), [900.0, 0.0, 0.0]), (11, 11, 11))
    grids = pair_grids(fixed, moving, (5, 5, 5), (2.0, 2.0, 2.0), "centres")
    for own, made in zip((fixed, moving), grids, strict=True):
        middle = nib.affines.apply_affine(own.place.affine, [5.0] * 3)
        np.testing.assert_allclose(nib.affines.apply_affine(made.place.affine, [2.0] * 3), middle,
                                   atol=1.01)  # fmt: skip


def test_a_working_grid_has_the_same_corners() -> None:
    full = grid(turned(20, (1.0, 2.0, 3.0), [4.0, 5.0, 6.0]), (9, 8, 12))
    half = working_image_grid(full, "half")
    assert half.shape == (5, 4, 6)
    for corner in ([0, 0, 0], [1, 0, 1], [1, 1, 1]):
        places = [
            nib.affines.apply_affine(g.place.affine, np.array(corner) * (np.array(g.shape) - 1))
            for g in (full, half)
        ]
        np.testing.assert_allclose(places[0], places[1], atol=1e-9)


def test_the_overlap_is_a_fraction_of_the_smaller_scan() -> None:
    large = grid(np.eye(4), (20, 20, 20))
    small = grid(
        np.array([[1.0, 0, 0, 15], [0, 1, 0, 5], [0, 0, 1, 5], [0, 0, 0, 1]]), (10, 10, 10)
    )
    assert overlap_fraction(large, small) == pytest.approx(0.5, abs=0.01)
    assert overlap_fraction(small, large) == pytest.approx(0.5, abs=0.01)
    assert overlap_fraction(large, large) == 1
