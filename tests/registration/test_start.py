import numpy as np
import torch
from scipy.ndimage import gaussian_filter, map_coordinates

from l2reg.registration.start import Start, start_from_field

SHAPE = (12, 9, 14)
MATRIX = np.array([[0.9, 0.1, 0.0, 3.0], [-0.1, 1.1, 0.0, -2.0], [0.05, 0.0, 1.0, 1.0]])


def as_tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array)[None].float()


def smooth(random: np.random.Generator, size: float) -> np.ndarray:
    field = np.stack([gaussian_filter(random.normal(size=SHAPE), 2.5) for _ in range(3)])
    scaled: np.ndarray = field * size / np.abs(field).max()
    return scaled


def moved(points: np.ndarray) -> np.ndarray:
    return np.einsum("cd,dijk->cijk", MATRIX[:, :3], points) + MATRIX[:, 3, None, None, None]


def test_a_correction_goes_before_the_start_whether_map_or_field(
    random: np.random.Generator,
) -> None:
    voxels = np.indices(SHAPE).astype(float)
    correction = smooth(random, 1.5)
    start = Start(as_tensor(MATRIX))
    expected = moved(voxels + correction) - voxels
    np.testing.assert_allclose(start.after(as_tensor(correction))[0], expected, atol=1e-4)
    field = moved(voxels + smooth(random, 2.0)) - voxels
    by_scipy = [map_coordinates(c, voxels + correction, order=1, mode="nearest") for c in field]
    total = start_from_field(as_tensor(field)).after(as_tensor(correction))
    np.testing.assert_allclose(total[0], correction + by_scipy, atol=1e-4)


def test_the_map_of_a_field_is_its_affine_part_and_the_rest_goes_before_it(
    random: np.random.Generator,
) -> None:
    voxels = np.indices(SHAPE).astype(float)
    start = start_from_field(as_tensor(moved(voxels) - voxels))
    np.testing.assert_allclose(start.matrix[0], MATRIX, atol=1e-4)
    rest = smooth(random, 1.0)
    total = as_tensor(moved(voxels + rest) - voxels)
    assert torch.equal(start_from_field(total).field(SHAPE), total)
    np.testing.assert_allclose(start.beyond_map(total)[0], rest, atol=1e-3)
