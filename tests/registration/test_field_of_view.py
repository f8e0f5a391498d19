import numpy as np
import pytest
from scipy.ndimage import affine_transform, gaussian_filter
from scipy.spatial.transform import Rotation

from l2reg.registration.field_of_view import field_of_view

SHAPE = (40, 46, 30)


def body(random: np.random.Generator, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Return noisy tissue in noisy air, in whole numbers as a scanner writes them."""
    grid = np.indices(shape).astype(float)
    centre = (np.array(shape) - 1) / 2
    di, dj, dk = grid - centre[:, None, None, None]
    tissue = (di / 15) ** 2 + (dj / 12) ** 2 + 0.1 * np.sin(dk) < 1
    hu = np.where(tissue, 40.0, -1000.0) + 15 * random.standard_normal(shape)
    return np.asarray(hu.round(), dtype=np.float32)


def cylinder(axis: int, radius: float, offset: tuple[float, float]) -> np.ndarray:
    """Return a scanner's circle in all slices along an axis."""
    grid = np.delete(np.indices(SHAPE), axis, axis=0)
    centre = (np.delete(SHAPE, axis) - 1) / 2 + offset
    inside: np.ndarray = np.hypot(*(grid - centre[:, None, None, None])) <= radius
    return inside


@pytest.mark.parametrize("padding", [-3024.0, -2000.0, -1024.0, 0.0])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_scanner_circle_is_the_field_of_view(
    random: np.random.Generator, padding: float, axis: int
) -> None:
    """Some voxels of the scan have the value of the padding, too."""
    inside = cylinder(axis, 16, (1.5, -2.0))
    image = np.where(inside, body(random), np.float32(padding))
    view = field_of_view(image)
    assert not view[~inside].any()
    assert view[inside].mean() > 0.99


def test_a_circle_between_blank_slices_is_the_field_of_view(random: np.random.Generator) -> None:
    inside = cylinder(2, 17, (0.0, 1.0))
    inside[:, :, :4] = inside[:, :, 25:] = False
    view = field_of_view(np.where(inside, body(random), np.float32(0)))
    assert (view != inside).mean() < 1e-3  # voxels of the scan beside it may have its value


def test_a_turned_volume_is_the_field_of_view(random: np.random.Generator) -> None:
    turn = Rotation.from_euler("xyz", [9, 6, 17], degrees=True).as_matrix()
    centre = (np.array(SHAPE) - 1) / 2
    shift = centre - turn @ centre
    inside = affine_transform(np.ones(SHAPE), turn, shift, order=0, mode="constant") > 0
    turned = affine_transform(body(random), turn, shift, order=0, mode="constant", cval=-1024)
    view = field_of_view(turned)
    assert (view != inside).mean() < 0.01


def test_air_of_even_intensity_around_a_body_is_compared(random: np.random.Generator) -> None:
    """The outline of a head or of a skull-stripped brain is all that tells its size."""
    grid = np.indices(SHAPE) - (np.array(SHAPE)[:, None, None, None] - 1) / 2
    round_head = (grid / np.array([15, 18, 12])[:, None, None, None]) ** 2
    rough = gaussian_filter(random.standard_normal(SHAPE), 3)
    brain = round_head.sum(axis=0) + 0.3 * rough / rough.std() < 0.8
    for inside in (round_head.sum(axis=0) < 1, brain):
        image = np.where(inside, 100 + random.random(SHAPE), 0).astype(np.float32)
        assert field_of_view(image).all()


def test_a_scan_without_padding_is_seen_whole(random: np.random.Generator) -> None:
    assert field_of_view(body(random)).all()
    assert field_of_view(np.zeros((5, 6, 7), np.float32)).all()
    assert field_of_view(np.zeros((5, 1, 7), np.float32)).all()
