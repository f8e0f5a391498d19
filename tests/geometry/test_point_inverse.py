import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, map_coordinates

from l2reg.geometry.point_inverse import PointInverse
from l2reg.geometry.warp import sample_at_points, sample_in_torch_units, to_torch_grid

SHAPE = (13, 9, 17)
TO_MM = np.array([[0.0, -1.5, 0.0], [0.8, 0.0, 0.0], [0.0, 0.0, 2.0]])  # of voxels, turned


def field(random: np.random.Generator, size: float) -> np.ndarray:
    smooth = np.stack([gaussian_filter(random.normal(size=SHAPE), 1.5) for _ in range(3)])
    scaled: np.ndarray = size * smooth / np.abs(smooth).max()
    return scaled


def moved(disp: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points + [map_coordinates(each, points, order=1, mode="nearest") for each in disp]


def damped_iteration(disp: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Chen's iteration, whose step is halved wherever the error would grow."""
    found, step = targets.copy(), np.ones(targets.shape[1])
    for _ in range(100):
        error = moved(disp, found) - targets
        candidate = found - step * error
        norms = [np.linalg.norm(TO_MM @ e, axis=0)
                 for e in (error, moved(disp, candidate) - targets)]  # fmt: skip
        better = norms[1] < norms[0]
        found, step = np.where(better, candidate, found), np.where(better, step, step / 2)
    return found


@pytest.mark.parametrize("size", [0.4, 1.0])
def test_it_is_what_the_damped_iteration_finds(random: np.random.Generator, size: float) -> None:
    disp = field(random, size)
    targets = random.uniform(-1, np.array(SHAPE)[:, None], (3, 400))
    inverse = PointInverse(torch.from_numpy(disp)[None], torch.from_numpy(TO_MM), 1e-6, 100)
    found = inverse(torch.from_numpy(targets)).numpy()
    error_mm = np.linalg.norm(TO_MM @ (moved(disp, found) - targets), axis=0)
    assert error_mm.max() < 1e-6
    np.testing.assert_allclose(found, damped_iteration(disp, targets), atol=1e-5)


def test_where_a_field_folds_the_error_does_not_grow(random: np.random.Generator) -> None:
    disp = field(random, 3.5)
    targets = random.uniform(0, np.array(SHAPE)[:, None] - 1, (3, 500))
    inverse = PointInverse(torch.from_numpy(disp)[None], torch.from_numpy(TO_MM), 1e-4, 100)
    found = inverse(torch.from_numpy(targets)).numpy()
    first = targets - (moved(disp, targets) - targets)
    at_first, damped, left = (
        np.linalg.norm(TO_MM @ (moved(disp, points) - targets), axis=0)
        for points in (first, damped_iteration(disp, targets), found)
    )
    assert (left > 0.1).any()
    assert (left <= at_first + 1e-9).all()
    assert (left < 1e-4).mean() >= (damped < 1e-4).mean() - 0.01


def test_positions_of_torch_are_sampled_as_voxels_are(rng: torch.Generator) -> None:
    volume = torch.rand(1, 2, *SHAPE, generator=rng, dtype=torch.float64)
    points = torch.rand(1, 7, 3, generator=rng, dtype=torch.float64) * 20 - 2
    positions = to_torch_grid(points.mT[..., None, None], SHAPE)[0, :, 0, 0].T
    sampled = sample_in_torch_units(volume, positions)
    torch.testing.assert_close(sampled, sample_at_points(volume, points)[0].T)
