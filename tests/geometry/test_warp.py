from collections.abc import Callable, Iterator

import numpy as np
import pytest
import SimpleITK
import torch
from monai.networks.blocks import Warp
from scipy.ndimage import map_coordinates

from l2reg.geometry.warp import (
    inside_volume,
    sample_at_points,
    voxel_coords,
    warp,
    warp_with_fill,
)

SHAPE = (5, 6, 7)  # three different sizes, so that a swapped axis cannot pass


def constant_field(shape: tuple[int, int, int], *vector: float) -> torch.Tensor:
    return torch.tensor(vector).view(1, 3, 1, 1, 1).expand(1, 3, *shape)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_convention_component_c_samples_one_voxel_further_along_axis_c(axis: int) -> None:
    moving = torch.zeros(1, 1, *SHAPE)
    position = [2, 3, 4]
    moving[0, 0, *position] = 1.0
    vector = [0.0, 0.0, 0.0]
    vector[axis] = 1.0

    warped = warp(moving, constant_field(SHAPE, *vector), padding="zeros")

    position[axis] -= 1  # sampled one voxel further on, the content arrives one voxel earlier
    assert (warped[0, 0] > 0.5).nonzero().tolist() == [position]


def test_a_shift_of_1_2_3_lands_exactly_there() -> None:
    moving = torch.zeros(1, 1, 9, 10, 11)
    moving[0, 0, 5, 6, 7] = 1.0
    warped = warp(moving, constant_field((9, 10, 11), 1.0, 2.0, 3.0), padding="zeros")
    assert (warped[0, 0] > 0.5).nonzero().tolist() == [[4, 4, 4]]
    torch.testing.assert_close(warped[0, 0, 4, 4, 4], torch.tensor(1.0))


@pytest.mark.parametrize("moving_shape", [SHAPE, (4, 9, 8)])
def test_agrees_with_scipy_in_float64(
    moving_shape: tuple[int, int, int], rng: torch.Generator
) -> None:
    moving = torch.rand(1, 1, *moving_shape, generator=rng, dtype=torch.float64)
    disp = 2 * torch.randn(1, 3, *SHAPE, generator=rng, dtype=torch.float64)

    warped = warp(moving, disp)

    positions = np.indices(SHAPE) + disp[0].numpy()
    expected = map_coordinates(moving[0, 0].numpy(), positions, order=1, mode="nearest")
    np.testing.assert_allclose(warped[0, 0].numpy(), expected, atol=1e-12)


def test_agrees_with_scipy_to_1e5_inside_in_float32(rng: torch.Generator) -> None:
    shape = (20, 26, 31)
    moving = torch.rand(1, 1, *shape, generator=rng)
    grid = voxel_coords(moving)
    target = torch.rand(1, 3, *shape, generator=rng) * (torch.tensor(shape) - 1).view(3, 1, 1, 1)
    disp = target - grid  # every position is inside

    warped = warp(moving, disp)

    positions = np.indices(shape) + disp[0].numpy().astype(np.float64)
    expected = map_coordinates(moving[0, 0].numpy(), positions, order=1)
    np.testing.assert_allclose(warped[0, 0].numpy(), expected, atol=1e-5)


@pytest.mark.filterwarnings("ignore:monai.networks.blocks.Warp")
def test_agrees_with_monai(rng: torch.Generator) -> None:
    moving = torch.rand(2, 3, *SHAPE, generator=rng)
    disp = torch.randn(2, 3, *SHAPE, generator=rng)
    monai_warp = Warp(mode="bilinear", padding_mode="border")
    torch.testing.assert_close(warp(moving, disp), monai_warp(moving, disp), atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(4, 7, 10), (5, 8, 9), (1, 6, 3)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-12)])
def test_the_zero_field_returns_the_image(
    shape: tuple[int, int, int], dtype: torch.dtype, tolerance: float, rng: torch.Generator
) -> None:
    image = torch.rand(1, 2, *shape, generator=rng, dtype=dtype)
    warped = warp(image, torch.zeros(1, 3, *shape, dtype=dtype))
    torch.testing.assert_close(warped, image, atol=tolerance, rtol=0)


def test_outside_is_the_edge_voxel_or_zero() -> None:
    image = torch.full((1, 1, *SHAPE), 3.0)
    far = constant_field(SHAPE, 20.0, 0.0, 0.0)
    assert (warp(image, far) == 3.0).all()
    assert (warp(image, far, padding="zeros") == 0.0).all()


def test_nearest_interpolation_makes_no_new_label(rng: torch.Generator) -> None:
    labels = torch.randint(0, 2, (1, 1, *SHAPE), generator=rng).float() * 35
    disp = torch.randn(1, 3, *SHAPE, generator=rng)
    assert set(warp(labels, disp, interpolation="nearest").unique().tolist()) <= {0.0, 35.0}
    assert len(warp(labels, disp).unique()) > 2  # linear interpolation does


def test_half_precision_and_autocast_change_nothing_but_the_input(rng: torch.Generator) -> None:
    image = torch.rand(1, 1, 20, 21, 22, generator=rng)
    disp = torch.randn(1, 3, 20, 21, 22, generator=rng)
    exact = warp(image, disp)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(warp(image, disp), exact)
    half = warp(image.half(), disp.half())
    assert half.dtype == torch.float32
    assert torch.equal(half, warp(image.half().float(), disp.half().float()))


def test_gradient_reaches_image_and_field(rng: torch.Generator) -> None:
    moving = torch.rand(1, 2, 3, 4, 5, generator=rng, dtype=torch.float64, requires_grad=True)
    disp = 0.3 + 0.2 * torch.rand(1, 3, 3, 4, 5, generator=rng, dtype=torch.float64)
    assert torch.autograd.gradcheck(warp, (moving, disp.requires_grad_()))


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Set the number of torch's threads for a test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("n_threads", [2, 3, 4, 12])  # of 12 planes, or of 13
@pytest.mark.parametrize("shape", [(12, 6, 7), (13, 6, 7)])
@pytest.mark.parametrize(
    ("channels", "moving_shape", "dtype"),
    [
        (1, None, torch.float32),
        (3, None, torch.float32),
        (3, (4, 9, 8), torch.float32),
        (2, (15, 5, 6), torch.float64),
    ],
)
def test_the_number_of_threads_changes_nothing(
    n_threads: int,
    shape: tuple[int, int, int],
    channels: int,
    moving_shape: tuple[int, int, int] | None,
    dtype: torch.dtype,
    threads: Callable[[int], None],
    rng: torch.Generator,
) -> None:
    moving = torch.rand(1, channels, *(moving_shape or shape), generator=rng, dtype=dtype)
    disp = 2 * torch.randn(1, 3, *shape, generator=rng, dtype=dtype)
    for how in ({}, {"padding": "zeros"}, {"interpolation": "nearest"}):
        threads(1)
        alone = warp(moving, disp, **how)
        threads(n_threads)
        shared = warp(moving, disp, **how)
        assert shared.shape == (1, channels, *shape)
        assert shared.dtype == dtype
        assert torch.equal(shared, alone)


@pytest.mark.parametrize("n_threads", [1, 2, 3])
@pytest.mark.parametrize("moving_needs_one_too", [False, True])
def test_threads_share_the_gradient_of_the_field(
    n_threads: int,
    moving_needs_one_too: bool,
    threads: Callable[[int], None],
    rng: torch.Generator,
) -> None:
    moving = torch.rand(1, 2, 3, 4, 5, generator=rng, dtype=torch.float64)
    disp = 0.3 + 0.2 * torch.rand(1, 3, 4, 3, 5, generator=rng, dtype=torch.float64)
    disp.requires_grad_()
    upstream = torch.randn(1, 2, 4, 3, 5, generator=rng, dtype=torch.float64)
    threads(1)
    (expected,) = torch.autograd.grad(warp(moving, disp), disp, upstream)
    threads(n_threads)
    moving.requires_grad_(moving_needs_one_too)
    warped = warp(moving, disp)
    (gradient,) = torch.autograd.grad(warped, disp, upstream)
    torch.testing.assert_close(gradient, expected)
    assert torch.autograd.gradcheck(warp, (moving, disp))


def test_points_are_sampled_where_they_lie(rng: torch.Generator) -> None:
    volume = torch.rand(2, 3, *SHAPE, generator=rng, dtype=torch.float64)
    points = torch.rand(2, 11, 3, generator=rng, dtype=torch.float64) * torch.tensor([4, 5, 6])
    sampled = sample_at_points(volume, points)
    for pair in range(2):
        for channel in range(3):
            expected = map_coordinates(
                volume[pair, channel].numpy(), points[pair].T.numpy(), order=1
            )
            np.testing.assert_allclose(sampled[pair, :, channel].numpy(), expected, atol=1e-12)


def blob(shape: tuple[int, int, int], centre: torch.Tensor) -> torch.Tensor:
    offset = voxel_coords(torch.empty(1, 1, *shape)) - centre.view(1, 3, 1, 1, 1)
    return torch.exp(-offset.square().sum(dim=1, keepdim=True) / 4)


@pytest.mark.parametrize(("sign", "agrees"), [(1.0, True), (-1.0, False)])
def test_images_and_points_move_together_fixed_to_moving(sign: float, agrees: bool) -> None:
    shape = (24, 26, 28)
    grid = voxel_coords(torch.empty(1, 1, *shape))
    wave = torch.sin(2 * torch.pi * grid.flip(1) / 26)
    disp = wave * torch.tensor([1.5, -2.0, 1.0]).view(3, 1, 1, 1)
    fixed_point = torch.tensor([[[7.0, 6.0, 7.0]]])
    moving_point = fixed_point + sample_at_points(disp, fixed_point)
    moving = blob(shape, moving_point[0, 0])

    warped = warp(moving, sign * disp)[0, 0]

    brightest = torch.tensor(np.unravel_index(int(warped.argmax()), shape), dtype=torch.float32)
    assert bool((brightest - fixed_point[0, 0]).abs().max() <= 1) is agrees


def test_inside_is_where_every_coordinate_is(rng: torch.Generator) -> None:
    disp = 4 * torch.randn(1, 3, 5, 6, 7, generator=rng)
    shape = (4, 9, 8)
    inside = inside_volume(disp, shape)
    for at in np.ndindex(5, 6, 7):
        coords = np.array(at) + disp[0, :, at[0], at[1], at[2]].numpy()
        expected = all(0 <= x <= n - 1 for x, n in zip(coords, shape, strict=True))
        assert float(inside[0, 0][at]) == expected


@pytest.mark.parametrize("on_faces", [False, True])
def test_with_a_fill_value_itk_resamples_alike_up_to_the_faces(
    on_faces: bool, rng: torch.Generator
) -> None:
    """Displacements of whole halves lead to the faces of voxels exactly."""
    moving = torch.rand(1, 1, 4, 9, 8, generator=rng)
    disp = 3 * torch.randn(1, 3, *SHAPE, generator=rng)
    if on_faces:
        disp = (2 * disp).round() / 2
    field = SimpleITK.GetImageFromArray(
        disp[0].permute(3, 2, 1, 0).numpy().astype(np.float64), isVector=True
    )
    by_itk = SimpleITK.Resample(
        SimpleITK.GetImageFromArray(moving[0, 0].permute(2, 1, 0).numpy()),
        SimpleITK.Image(*SHAPE, SimpleITK.sitkFloat32),
        SimpleITK.DisplacementFieldTransform(field),
        SimpleITK.sitkLinear,
        -7.0,
    )
    expected = SimpleITK.GetArrayFromImage(by_itk).transpose(2, 1, 0)
    assert 0.1 < (expected == -7).mean() < 0.9
    warped = warp_with_fill(moving, disp, -7.0)[0, 0].numpy()
    np.testing.assert_allclose(warped, expected, rtol=0, atol=2e-6)


def test_beside_a_face_no_voxel_is_lost_to_rounding() -> None:
    """In float32, voxel 400 plus the displacement is 399.5 in both cases."""
    disp = torch.zeros(1, 3, 402, 1, 1)
    moving = torch.ones(1, 1, 400, 1, 1)
    for offset, value in ((-0.500005, 1.0), (-0.499995, 5.0)):
        disp[0, 0, 400] = offset
        assert float(warp_with_fill(moving, disp, 5.0)[0, 0, 400]) == value
