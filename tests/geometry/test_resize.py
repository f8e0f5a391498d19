import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, zoom

from l2reg.geometry.resize import (
    resample,
    resize_field,
    resize_image,
    resize_labels,
    resize_points,
    voxel_ratio,
)
from l2reg.geometry.warp import sample_at_points, voxel_coords, warp


def grid(shape: tuple[int, int, int]) -> torch.Tensor:
    return voxel_coords(torch.empty(1, 1, *shape, dtype=torch.float64))


def test_a_linear_field_is_the_same_deformation_on_every_grid() -> None:
    # u(p) = 0.25 p in voxels of either grid: a linear field is exact on every grid.
    resized = resize_field(0.25 * grid((5, 6, 7)), (9, 16, 25))
    torch.testing.assert_close(resized, 0.25 * grid((9, 16, 25)))


def test_a_constant_of_3_scales_with_the_voxel_not_with_the_size() -> None:
    n = 8
    doubled = resize_field(torch.full((1, 3, n, n + 1, n + 2), 3.0), (2 * n, 2 * n + 2, 2 * n + 4))
    expected = torch.tensor([3 * 15 / 7, 3 * 17 / 8, 3 * 19 / 9])
    torch.testing.assert_close(doubled[0, :, 2, 3, 4], expected)


def test_to_a_finer_grid_and_back_is_the_identity_for_a_linear_field() -> None:
    disp = 0.1 * grid((7, 8, 9)) + 2
    restored = resize_field(resize_field(disp, (13, 15, 17)), (7, 8, 9))
    torch.testing.assert_close(restored, disp)


def test_sampling_is_corner_aligned_as_scipy_zoom_is(rng: torch.Generator) -> None:
    volume = torch.rand(1, 1, 6, 7, 8, generator=rng, dtype=torch.float64)
    expected = zoom(volume[0, 0].numpy(), 2, order=1)
    np.testing.assert_allclose(resample(volume, (12, 14, 16))[0, 0].numpy(), expected, atol=1e-12)


def test_shrinking_smooths_first_and_growing_does_not(rng: torch.Generator) -> None:
    image = torch.rand(1, 1, 17, 19, 21, generator=rng, dtype=torch.float64)
    small = resize_image(image, (9, 10, 11))  # exactly every second voxel
    smoothed = gaussian_filter(image[0, 0].numpy(), 0.5, mode="nearest", radius=2)
    np.testing.assert_allclose(small[0, 0].numpy(), smoothed[::2, ::2, ::2], atol=1e-12)
    grown = resize_image(image, (33, 37, 41))
    torch.testing.assert_close(grown[..., ::2, ::2, ::2], image)


def test_smoothing_keeps_the_edge_values() -> None:
    flat = torch.full((1, 2, 8, 9, 10), 0.7)
    torch.testing.assert_close(resize_image(flat, (4, 5, 5)), torch.full((1, 2, 4, 5, 5), 0.7))


def test_labels_take_the_nearest_voxel_and_invent_none() -> None:
    labels = torch.randint(0, 36, (2, 1, 9, 11, 13), generator=torch.Generator().manual_seed(1))
    small = resize_labels(labels, (5, 6, 7))
    assert torch.equal(small, labels[..., ::2, ::2, ::2])
    assert small.dtype == labels.dtype


@pytest.mark.parametrize("new", [(5, 8, 13), (18, 7, 26), (9, 11, 13)])
def test_the_nearest_label_is_that_of_nearest_interpolation(new: tuple[int, int, int]) -> None:
    labels = torch.randint(0, 36, (1, 1, 9, 11, 13), generator=torch.Generator().manual_seed(1))
    ratio = torch.tensor(voxel_ratio(new, (9, 11, 13)), dtype=torch.float64).view(3, 1, 1, 1)
    disp = grid(new) * (ratio - 1)
    expected = warp(labels.double(), disp, interpolation="nearest").to(labels.dtype)
    assert torch.equal(resize_labels(labels, new), expected)


def test_one_axis_may_shrink_alone_and_gradients_pass(rng: torch.Generator) -> None:
    image = torch.rand(2, 3, 6, 7, 8, generator=rng, dtype=torch.float64, requires_grad=True)
    small = resize_image(image, (6, 4, 8))
    smoothed = gaussian_filter(image[1, 2].detach().numpy(), (0, 0.5, 0), mode="nearest", radius=2)
    np.testing.assert_allclose(small[1, 2].detach().numpy(), smoothed[:, ::2], atol=1e-12)
    small.sum().backward()
    assert image.grad is not None
    assert (image.grad > 0).all()


def test_points_follow_the_image(rng: torch.Generator) -> None:
    shape, new = (9, 10, 11), (5, 16, 21)
    volume = grid(shape)[:, :1] + 2 * grid(shape)[:, 1:2] - grid(shape)[:, 2:]
    points = torch.rand(1, 6, 3, generator=rng, dtype=torch.float64) * torch.tensor([8, 9, 10])
    torch.testing.assert_close(
        sample_at_points(resample(volume, new), resize_points(points, shape, new)),
        sample_at_points(volume, points),
    )


def test_resizing_field_and_images_together_keeps_their_match(rng: torch.Generator) -> None:
    moving = grid((9, 10, 11))
    disp = resample(torch.randn(1, 3, 3, 3, 3, generator=rng, dtype=torch.float64), (9, 10, 11))
    fine = (17, 19, 21)
    warped_then_resized = resample(warp(moving, disp), fine)
    resized_then_warped = warp(resample(moving, fine), resize_field(disp, fine))
    inner = (..., slice(4, -4), slice(4, -4), slice(4, -4))  # sampled inside the volume
    torch.testing.assert_close(resized_then_warped[inner], warped_then_resized[inner])


@pytest.mark.parametrize(("old", "new"), [((1, 5, 6), (1, 9, 6)), ((5, 1, 6), (9, 2, 6))])
def test_an_axis_of_one_voxel_has_ratio_one(
    old: tuple[int, int, int], new: tuple[int, int, int]
) -> None:
    expected = [1.0, 2.0, 1.0] if old[0] == 1 else [2.0, 1.0, 1.0]
    assert voxel_ratio(old, new) == expected
