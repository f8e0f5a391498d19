from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import affine_transform, gaussian_filter
from scipy.spatial.transform import Rotation

from l2reg.data.field_of_view import field_of_view

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


def test_the_last_slice_of_a_circle_may_be_tilted(random: np.random.Generator) -> None:
    inside = cylinder(2, 16, (0.0, 1.0))
    inside[:, :, 26:] = False
    inside[10:, :, 25] = False
    view = field_of_view(np.where(inside, body(random), np.float32(-1024)))
    assert (view != inside).mean() < 1e-3


def test_a_long_circle_is_the_field_of_view(random: np.random.Generator) -> None:
    """The sides of its hull are larger triangles than its ends consist of."""
    inside = np.repeat(cylinder(2, 17, (0.0, 1.0)), 3, axis=2)
    image = np.where(inside, np.repeat(body(random), 3, axis=2), np.float32(-3024))
    np.testing.assert_array_equal(field_of_view(image), inside)


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


def cut(normal: np.ndarray, depth: float) -> np.ndarray:
    """Return the half-space that a plane at a depth below the centre of the volume leaves."""
    offsets = np.indices(SHAPE) - (np.array(SHAPE)[:, None, None, None] - 1) / 2
    left: np.ndarray = np.tensordot(normal / np.linalg.norm(normal), offsets, 1) > -depth
    return left


def round_body(random: np.random.Generator) -> np.ndarray:
    """Return tissue in blank air, of which nothing reaches a face."""
    offsets = np.indices(SHAPE) - (np.array(SHAPE)[:, None, None, None] - 1) / 2
    inside = ((offsets / np.array([17, 19, 13])[:, None, None, None]) ** 2).sum(axis=0) < 1
    return np.where(inside, 100 + random.random(SHAPE), 0).astype(np.float32)


@pytest.mark.parametrize("normal", [(1, 0, 0), (0, -1, 0), (0, 0, 1), (0.1, 0.05, 1)])
def test_beyond_the_plane_that_cuts_a_body_off_is_padding(
    random: np.random.Generator, normal: tuple[float, float, float]
) -> None:
    """Blank air beside the body joins the padding, but it was seen."""
    seen = cut(np.array(normal), 6.5)
    view = field_of_view(np.where(seen, round_body(random), np.float32(0)))
    assert (view != seen).mean() < 0.02  # a layer of voxels, where the plane is slanted
    assert not view[~seen].any() or not np.isin(normal, (-1, 0, 1)).all()


def test_a_body_may_be_cut_off_on_several_sides(random: np.random.Generator) -> None:
    seen = cut(np.array([0, 0, 1]), 6.5) & cut(np.array([1, 0, 0]), 9.5)
    seen &= cut(np.array([0, -1, 0]), 11.5)
    view = field_of_view(np.where(seen, round_body(random), np.float32(0)))
    np.testing.assert_array_equal(view, seen)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_plane_is_found_to_a_voxel_in_a_large_volume(
    random: np.random.Generator, axis: int
) -> None:
    """Every other voxel is looked at there."""
    large = np.repeat(round_body(random), 4, axis)
    first = 53
    seen = np.arange(large.shape[axis]) >= first
    image = np.moveaxis(large, axis, 0) * seen[:, None, None]
    view = np.moveaxis(field_of_view(np.moveaxis(image, 0, axis)), axis, 0)
    assert not view[:first].any()
    assert view[first + 1 :].all()


def test_a_cut_body_that_touches_both_sides_of_the_volume_is_no_field_of_view(
    random: np.random.Generator,
) -> None:
    """It is convex, as a field of view is, but round on the other sides: its outline counts."""
    offsets = np.indices(SHAPE) - (np.array(SHAPE)[:, None, None, None] - 1) / 2
    inside = ((offsets / np.array([20, 19, 13])[:, None, None, None]) ** 2).sum(axis=0) < 1
    seen = cut(np.array([0, 1, 0]), 7.5)
    view = field_of_view(np.where(inside & seen, 100 + random.random(SHAPE), 0).astype(np.float32))
    np.testing.assert_array_equal(view, seen)


@pytest.mark.parametrize("first", [3, 10])
def test_padding_may_have_another_value_than_the_air_beside_it(
    random: np.random.Generator, first: int
) -> None:
    """It ends in air, or cuts the body off; either value is at half of the corners."""
    seen = np.broadcast_to(np.arange(SHAPE[0])[:, None, None] >= first, SHAPE)
    view = field_of_view(np.where(seen, round_body(random), np.float32(-1024)))
    np.testing.assert_array_equal(view, seen)


def test_padding_of_one_corner_is_found(random: np.random.Generator) -> None:
    seen = cut(np.array([1, 1, 1]), 14.5)
    view = field_of_view(np.where(seen, body(random), np.float32(0)))
    assert (view != seen).mean() < 0.02
    assert view[seen].mean() > 0.98


def test_a_circle_in_a_few_thick_slices_is_the_field_of_view(random: np.random.Generator) -> None:
    inside = cylinder(2, 16, (1.5, -2.0))[:, :, :7]
    inside[:, :, 6] = False
    view = field_of_view(np.where(inside, body(random)[:, :, :7], np.float32(-1024)))
    assert (view != inside).mean() < 1e-3


def test_the_plane_is_found_in_a_scan_of_thick_slices(random: np.random.Generator) -> None:
    """The body ends within the slices on both sides, and they are too few to see whether flat."""
    thick = round_body(random)[:, :, ::5].copy()
    assert field_of_view(thick).all()
    thick[:12] = 0
    view = field_of_view(thick)
    assert not view[:12].any()
    assert view[12:].all()


def test_padding_within_other_padding_is_found(random: np.random.Generator) -> None:
    """A circle of -3024, turned, with -1024 where it left the volume."""
    turn = Rotation.from_euler("xyz", [4, 6, 14], degrees=True).as_matrix()
    centre = (np.array(SHAPE) - 1) / 2
    shift = centre - turn @ centre
    circle = cylinder(2, 15, (0.0, 1.0))
    scan = np.where(circle, body(random), np.float32(-3024))
    turned = affine_transform(scan, turn, shift, order=1, mode="constant", cval=-1024)
    volume = affine_transform(np.ones(SHAPE), turn, shift, order=0, mode="constant") > 0
    inside = affine_transform(circle.astype(float), turn, shift, order=0, mode="constant") > 0
    view = field_of_view(turned)
    assert (view != (inside & volume)).mean() < 0.06  # the seams are two voxels wide
    assert not view[~volume].any()


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


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2, 3])
def test_blank_slices_of_a_real_scan_are_padding_but_its_air_is_not(
    real_data: Path, number: int
) -> None:
    path = real_data / "task_01" / "MRIs" / f"img000{number}_chaos_MR.nii.gz"
    image = np.asarray(nib.load(path).dataobj, dtype=np.float32)
    view = field_of_view(image)
    blank = ~image.any(axis=(0, 1))  # at both ends of the block
    assert blank.sum() > 50
    assert not view[:, :, blank].any()
    assert view[image != 0].mean() > 0.97  # a voxel along the edge may be lost


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_real_brain_is_seen_whole_until_it_is_cut(real_data: Path, axis: int) -> None:
    path = real_data / "task_03" / "img0438.nii.gz"
    image = np.asarray(nib.load(path).dataobj, dtype=np.float32)
    assert field_of_view(image).all()
    slices = np.flatnonzero(image.any(axis=tuple(np.delete(range(3), axis))))
    first = slices[len(slices) // 4]
    cut = np.moveaxis(image.copy(), axis, 0)
    cut[:first] = 0
    view = np.moveaxis(field_of_view(np.moveaxis(cut, 0, axis)), axis, 0)
    assert not view[:first].any()
    assert view[first + 1 :].all()
