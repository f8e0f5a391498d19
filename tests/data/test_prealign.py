import pytest
import torch

from l2reg.batch import Batch
from l2reg.data.prealign import Prealign
from l2reg.geometry.affine import Motion, affine_field, identity_affine
from l2reg.geometry.warp import warp
from l2reg.shapes import Affine


def box(*corner: int) -> torch.Tensor:
    mask = torch.zeros(1, 1, 16, 18, 20)
    i, j, k = corner
    mask[..., i : i + 4, j : j + 5, k : k + 6] = 1
    return mask


def doubled(batch: Batch, motion: Motion, start: Affine) -> Affine:
    """Stands in for a search: returns twice the start."""
    return start * 2


BATCH = {"fixed_mask": box(2, 3, 4), "moving_mask": box(9, 4, 12)}


def test_mask_centres_are_brought_together() -> None:
    fixed, moving = BATCH.values()
    matrix = Prealign("mask_centre", doubled).matrix(BATCH)
    torch.testing.assert_close(matrix[0, :, 3], torch.tensor([7.0, 1.0, 8.0]))
    torch.testing.assert_close(warp(moving, affine_field(matrix, (16, 18, 20))), fixed)


def test_none_moves_nothing() -> None:
    assert torch.equal(Prealign("none", doubled).matrix(BATCH), identity_affine(1))


@pytest.mark.parametrize("method", ["translation", "rigid", "affine"])
def test_a_search_starts_at_the_mask_centres(method: str) -> None:
    prealign = Prealign(method, doubled)
    assert prealign.searches
    torch.testing.assert_close(prealign.matrix(BATCH)[0, :, 3], torch.tensor([14.0, 2.0, 16.0]))


def test_an_unknown_method_is_refused_by_name() -> None:
    with pytest.raises(
        ValueError, match="none, mask_centre, translation, rigid, affine, got 'affin'"
    ):
        Prealign("affin", doubled)
