from collections.abc import Callable

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from l2reg.io.headers import Placement
from l2reg.registration.transform_scans import TransformScans
from l2reg.transforms.image_grid import ImageGrid
from l2reg.transforms.world_transform import (
    AffineMap,
    DisplacementMap,
    WorldTransform,
    displacement_map,
)

Inside = Callable[[ImageGrid], np.ndarray]


def by_scipy(field: DisplacementMap, points: np.ndarray) -> np.ndarray:
    """Return where a field moves points, by ``map_coordinates``."""
    voxels = nib.affines.apply_affine(np.linalg.inv(field.place.affine), points.T).T
    moved = [map_coordinates(component, voxels, order=1) for component in field.disp_mm]
    return points + np.stack(moved)


def test_a_field_is_linear_between_its_voxels(
    smooth_field: DisplacementMap, points: Inside
) -> None:
    positions = points(smooth_field.grid)
    np.testing.assert_allclose(
        smooth_field(positions), by_scipy(smooth_field, positions), atol=1e-9
    )


def test_positions_outside_a_field_stay(smooth_field: DisplacementMap) -> None:
    voxels = np.array([[-0.6, 5, 5], [13.6, 5, 5], [5, 5, 15.4], [300, 5, 5]]).T
    positions = nib.affines.apply_affine(smooth_field.place.affine, voxels.T).T
    moved = np.linalg.norm(smooth_field(positions) - positions, axis=0) > 0
    assert moved.tolist() == [False, False, True, False]


def test_steps_are_applied_in_their_order(
    smooth_field: DisplacementMap, affine_map: AffineMap, points: Inside
) -> None:
    positions = points(smooth_field.grid)
    moved = WorldTransform((smooth_field, affine_map))(positions)
    expected = nib.affines.apply_affine(affine_map.matrix, by_scipy(smooth_field, positions).T).T
    np.testing.assert_allclose(moved, expected, atol=1e-9)


def test_the_inverse_brings_points_back(
    smooth_field: DisplacementMap, affine_map: AffineMap, points: Inside
) -> None:
    transform = WorldTransform((affine_map, smooth_field, affine_map))
    positions = affine_map.inverse(points(smooth_field.grid))  # so that the field gets those inside
    back = transform.inverse(transform(positions))
    np.testing.assert_allclose(back, positions, atol=5e-4)
    np.testing.assert_allclose(
        transform.inverse.inverse(positions), transform(positions), atol=1e-12
    )


def test_the_inverse_is_found_where_a_plain_iteration_diverges() -> None:
    """The displacement changes by -0.9 to 3 mm per mm; the plain one needs less than 1."""
    x = np.arange(40.0)
    disp = np.zeros((3, 40, 4, 5))
    disp[0] = (3.0 * np.clip(x - 18, 0, 4) - 0.9 * np.clip(x - 25, 0, 10))[:, None, None]
    field = DisplacementMap(disp, Placement(np.eye(4)))
    targets = np.stack([np.linspace(2, 38, 50), np.full(50, 1.0), np.full(50, 2.0)])
    found = field.inverse(targets)
    np.testing.assert_allclose(found + field.displacement(found), targets, atol=2e-4)


def test_affine_steps_alone_have_a_matrix(
    smooth_field: DisplacementMap, affine_map: AffineMap
) -> None:
    twice = WorldTransform((affine_map, affine_map)).matrix
    assert twice is not None
    np.testing.assert_allclose(twice, affine_map.matrix @ affine_map.matrix)
    assert WorldTransform((affine_map, smooth_field)).matrix is None


@pytest.mark.parametrize("dense", [False, True])
def test_the_field_in_voxels_and_in_millimetres_are_one(
    oblique_scans: TransformScans, affine_map: AffineMap, dense: bool
) -> None:
    """A naive loop over voxels takes each to the world, moves it and asks the moving header."""
    fixed, moving = oblique_scans.both("")
    step = WorldTransform((affine_map,)).on_grid(fixed) if dense else affine_map
    disp = WorldTransform((step,)).voxel_field(fixed, moving.place.affine)
    for voxel in [(0, 0, 0), (3, 7, 11), (13, 17, 15)]:
        world = affine_map.matrix @ fixed.place.affine @ [*voxel, 1]
        expected = (np.linalg.inv(moving.place.affine) @ world)[:3] - voxel
        np.testing.assert_allclose(disp[(slice(None), *voxel)], expected, atol=1e-5)
    again = displacement_map(disp, fixed.place, moving.place.affine)
    np.testing.assert_allclose(
        again.disp_mm, WorldTransform((step,)).on_grid(fixed).disp_mm, atol=1e-4
    )
