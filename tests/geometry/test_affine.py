import numpy as np
import torch
from scipy.ndimage import affine_transform

from l2reg.geometry.affine import (
    affine_after_field,
    affine_field,
    apply_affine,
    compose_affine,
    identity_affine,
    invert_affine,
    resize_affine,
)
from l2reg.geometry.compose import compose
from l2reg.geometry.resize import resize_field, resize_points
from l2reg.geometry.warp import sample_at_points, warp

SHAPE = (7, 8, 9)
MATRIX = torch.tensor(
    [[[1.1, 0.1, 0.0, -0.5], [-0.1, 0.9, 0.05, 1.0], [0.0, 0.1, 1.0, 0.25]]], dtype=torch.float64
)


def test_warping_with_an_affine_field_is_scipys_affine_transform(rng: torch.Generator) -> None:
    image = torch.rand(1, 1, *SHAPE, generator=rng, dtype=torch.float64)
    expected = affine_transform(
        image[0, 0].numpy(),
        MATRIX[0, :, :3].numpy(),
        MATRIX[0, :, 3].numpy(),
        order=1,
        mode="nearest",
    )
    warped = warp(image, affine_field(MATRIX, SHAPE))
    np.testing.assert_allclose(warped[0, 0].numpy(), expected, atol=1e-12)


def test_points_and_field_agree(rng: torch.Generator) -> None:
    points = 2 + 3 * torch.rand(1, 5, 3, generator=rng, dtype=torch.float64)
    moved = points + sample_at_points(affine_field(MATRIX, SHAPE), points)
    torch.testing.assert_close(apply_affine(MATRIX, points), moved)


def test_the_inverse_undoes_the_map(rng: torch.Generator) -> None:
    points = torch.rand(1, 5, 3, generator=rng, dtype=torch.float64)
    restored = apply_affine(invert_affine(MATRIX), apply_affine(MATRIX, points))
    torch.testing.assert_close(restored, points)


def test_maps_compose_from_the_inside_out(rng: torch.Generator) -> None:
    points = torch.rand(1, 5, 3, generator=rng, dtype=torch.float64)
    other = torch.rand(1, 3, 4, generator=rng, dtype=torch.float64)
    torch.testing.assert_close(
        apply_affine(compose_affine(MATRIX, other), points),
        apply_affine(MATRIX, apply_affine(other, points)),
    )


def test_affine_after_field_is_their_exact_composition(rng: torch.Generator) -> None:
    disp = torch.rand(1, 3, *SHAPE, generator=rng, dtype=torch.float64) - 0.5
    joined = affine_after_field(MATRIX, disp)
    composed = compose(affine_field(MATRIX, SHAPE), disp)
    inner = (..., slice(1, -1), slice(1, -1), slice(1, -1))
    torch.testing.assert_close(joined[inner], composed[inner])


def test_a_matrix_means_the_same_on_another_grid() -> None:
    new = (13, 8, 25)
    torch.testing.assert_close(
        affine_field(resize_affine(MATRIX, SHAPE, new), new),
        resize_field(affine_field(MATRIX, SHAPE), new),
    )
    points = torch.tensor([[[1.0, 2.0, 3.0]]], dtype=torch.float64)
    torch.testing.assert_close(
        apply_affine(resize_affine(MATRIX, SHAPE, new), resize_points(points, SHAPE, new)),
        resize_points(apply_affine(MATRIX, points), SHAPE, new),
    )


def test_the_identity_has_a_zero_field() -> None:
    assert (affine_field(identity_affine(2), SHAPE) == 0).all()
