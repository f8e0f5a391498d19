import numpy as np
import torch

from l2reg.geometry.jacobian import edge_differences, jacobian_determinant
from l2reg.geometry.warp import voxel_coords

SHAPE = (6, 7, 8)
GRID = voxel_coords(torch.empty(1, 1, *SHAPE, dtype=torch.float64))


def test_no_displacement_has_determinant_1() -> None:
    determinant = jacobian_determinant(torch.zeros(2, 3, *SHAPE))
    assert determinant.shape == (2, 4, 5, 6)
    assert (determinant == 1).all()


def test_a_stretch_of_a_tenth_along_one_axis_is_1_1_and_along_all_1_331() -> None:
    stretched = torch.zeros_like(GRID)
    stretched[:, 0] = 0.1 * GRID[:, 0]
    torch.testing.assert_close(
        jacobian_determinant(stretched), torch.full((1, 4, 5, 6), 1.1).double()
    )
    torch.testing.assert_close(
        jacobian_determinant(0.1 * GRID), torch.full((1, 4, 5, 6), 1.331).double()
    )


def test_agrees_with_numpy_on_a_random_field(rng: torch.Generator) -> None:
    disp = torch.randn(1, 3, *SHAPE, generator=rng, dtype=torch.float64)
    matrix = np.empty((*SHAPE, 3, 3))
    for component in range(3):
        for axis, gradient in enumerate(np.gradient(disp[0, component].numpy())):
            matrix[..., component, axis] = gradient + (component == axis)
    expected = np.linalg.det(matrix)[1:-1, 1:-1, 1:-1]
    np.testing.assert_allclose(jacobian_determinant(disp)[0].numpy(), expected, atol=1e-12)


def test_a_mirrored_axis_folds_everywhere_and_a_translation_nowhere() -> None:
    mirrored = torch.zeros_like(GRID)
    mirrored[:, 1] = -2 * GRID[:, 1]
    assert (jacobian_determinant(mirrored) == -1).all()
    assert (jacobian_determinant(torch.full_like(GRID, 3.0)) == 1).all()


def test_edge_differences_are_those_of_numpy_at_the_first_corner_of_every_cell(
    rng: torch.Generator,
) -> None:
    field = torch.randn(1, 3, *SHAPE, generator=rng)
    for axis, found in enumerate(edge_differences(field)):
        expected = np.diff(field.numpy(), axis=2 + axis)[:, :, :5, :6, :7]
        np.testing.assert_array_equal(found.numpy(), expected)
