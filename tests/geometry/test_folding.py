import numpy as np
import torch

from l2reg.geometry.folding import min_corner_determinant, remove_folds
from l2reg.geometry.jacobian import jacobian_determinant

SHAPE = (14, 12, 16)


def rough(rng: torch.Generator, size: float) -> torch.Tensor:
    return size * (torch.rand(1, 3, *SHAPE, generator=rng) - 0.5)


def test_the_smallest_determinant_is_that_of_a_naive_loop(rng: torch.Generator) -> None:
    disp = rough(rng, 1.5)
    position = disp[0].numpy() + np.mgrid[:14, :12, :16]
    determinants = min_corner_determinant(disp)[0].numpy()
    for cell in [(0, 0, 0), (12, 10, 14), (5, 3, 7)]:
        dets = []
        for corner in np.ndindex(2, 2, 2):
            voxel = np.add(cell, corner)
            columns = []
            for axis in range(3):
                low, high = voxel.copy(), voxel.copy()
                low[axis], high[axis] = cell[axis], cell[axis] + 1
                columns.append(position[(slice(None), *high)] - position[(slice(None), *low)])
            dets.append(np.linalg.det(np.stack(columns, axis=1)))
        np.testing.assert_allclose(determinants[cell], min(dets), rtol=1e-4)


def test_an_affine_map_has_one_determinant() -> None:
    scale = torch.tensor([0.1, -0.2, 0.3]).view(1, 3, 1, 1, 1)
    grid = torch.stack(torch.meshgrid(*(torch.arange(n) for n in SHAPE), indexing="ij"))
    expected = torch.full((1, 13, 11, 15), 1.1 * 0.8 * 1.3)
    torch.testing.assert_close(min_corner_determinant(scale * grid), expected, atol=1e-4, rtol=0)


def test_folds_are_gone_afterwards(rng: torch.Generator) -> None:
    disp = rough(rng, 2.5)
    assert float((jacobian_determinant(disp) <= 0).float().mean()) > 0.05
    repaired = remove_folds(disp, min_determinant=0.1)
    assert float(min_corner_determinant(repaired).min()) > 0.1
    assert float(jacobian_determinant(repaired).min()) > 0


def test_what_does_not_fold_is_left_as_it_was(rng: torch.Generator) -> None:
    smooth = rough(rng, 0.3)
    assert torch.equal(remove_folds(smooth, min_determinant=0.1), smooth)


def test_far_from_a_fold_nothing_changes() -> None:
    disp = torch.zeros(1, 3, *SHAPE)
    disp[0, 0, 3, 3, 3] = 1.5
    disp[0, 1, 10:, 8:, 12:] = 0.4
    repaired = remove_folds(disp, min_determinant=0.1)
    assert float(min_corner_determinant(repaired).min()) > 0.1
    assert torch.equal(repaired[..., 8:, :, :], disp[..., 8:, :, :])
    assert not torch.equal(repaired, disp)
