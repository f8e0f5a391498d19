from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from l2reg.geometry.affine import identity_affine
from l2reg.io.headers import Placement
from l2reg.own_data.pair_outputs import own_transform
from l2reg.transforms.image_grid import ImageGrid
from l2reg.transforms.pair_grid import pair_grids

Own = SimpleNamespace


def scan(shape: tuple[int, int, int], affine: np.ndarray) -> ImageGrid:
    return ImageGrid(shape, Placement(affine))


@pytest.mark.parametrize("start", ["headers", "centres"])
def test_a_field_on_the_grid_of_a_pair_goes_to_the_scan_and_on_beyond_the_grid(
    own: Own, random: np.random.Generator, start: str
) -> None:
    fixed, moving = scan(*own.fixed), scan(*own.moving)
    grids = pair_grids(fixed, moving, (11, 13, 9), (2.0, 2.0, 3.0), start)  # type: ignore[arg-type]
    disp = random.normal(size=(1, 3, 6, 7, 5))
    matrix = identity_affine(1) + 0.02 * torch.from_numpy(random.normal(size=(1, 3, 4)))
    field, initial, deformable = own_transform(
        torch.from_numpy(disp).float(), matrix.float(), grids, fixed
    )
    voxels = np.indices(fixed.shape).reshape(3, -1)
    world = nib.affines.apply_affine(fixed.place.affine, voxels.T)
    full = nib.affines.apply_affine(np.linalg.inv(grids[0].place.affine), world)
    coarse = (full * (np.array([5, 6, 4]) / np.array([10, 12, 8]))).T
    inside = np.clip(coarse, 0, np.array([[5], [6], [4]]))
    assert 0.05 < (inside != coarse).any(axis=0).mean() < 0.9
    # trilinear in the coarse field, as the full grid has its nodes at every second voxel
    step = np.stack([map_coordinates(each, inside, order=1) for each in disp[0]])
    moved = matrix[0].double().numpy() @ np.vstack([coarse + step, np.ones(coarse.shape[1])])
    expected = nib.affines.apply_affine(grids[1].place.affine, (moved * [[2], [2], [2]]).T)
    found = world + field.disp_mm.reshape(3, -1).T
    np.testing.assert_allclose(found, expected, atol=1e-4)
    there = initial(deformable(world.T[:, 5000:5100]))
    on_grid = (inside == coarse).all(axis=0)[5000:5100]
    np.testing.assert_allclose(there.T[on_grid], expected[5000:5100][on_grid], atol=1e-4)


def test_no_field_between_two_headers_is_no_displacement_in_the_world(own: Own) -> None:
    fixed, moving = scan(*own.fixed), scan(*own.moving)
    grids = pair_grids(fixed, moving, (11, 13, 9), (2.0, 2.0, 3.0), "headers")
    field, initial, _ = own_transform(torch.zeros(1, 3, 6, 7, 5), identity_affine(1), grids, fixed)
    assert np.abs(field.disp_mm).max() < 1e-12
    np.testing.assert_allclose(initial.matrix, np.eye(4), atol=1e-12)
