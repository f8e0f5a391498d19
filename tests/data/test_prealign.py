import torch

from l2reg.data.prealign import prealign_matrix
from l2reg.geometry.affine import affine_field, identity_affine
from l2reg.geometry.warp import warp


def box(*corner: int) -> torch.Tensor:
    mask = torch.zeros(1, 1, 16, 18, 20)
    i, j, k = corner
    mask[..., i : i + 4, j : j + 5, k : k + 6] = 1
    return mask


def test_mask_centres_are_brought_together() -> None:
    fixed, moving = box(2, 3, 4), box(9, 4, 12)
    matrix = prealign_matrix("mask_centre", fixed, moving)
    torch.testing.assert_close(matrix[0, :, 3], torch.tensor([7.0, 1.0, 8.0]))
    torch.testing.assert_close(warp(moving, affine_field(matrix, (16, 18, 20))), fixed)


def test_none_moves_nothing() -> None:
    matrix = prealign_matrix("none", box(2, 3, 4), box(9, 4, 12))
    assert torch.equal(matrix, identity_affine(1))
