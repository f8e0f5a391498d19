import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from l2reg.optimisation.data_term import data_term

SHAPE = (9, 7, 11)


def test_it_is_the_mean_over_the_voxels_that_both_masks_show(rng: torch.Generator) -> None:
    fixed, moving = torch.rand(2, 1, 4, *SHAPE, generator=rng)
    masks = (torch.rand(2, 1, 1, *SHAPE, generator=rng) > 0.3).float()
    disp = 3 * torch.rand(1, 3, *SHAPE, generator=rng) - 1.5
    at = np.indices(SHAPE) + disp[0].numpy()
    warped = [map_coordinates(channel, at, order=1, mode="nearest") for channel in moving[0]]
    seen = masks[0][0, 0].numpy() * map_coordinates(
        masks[1][0, 0].numpy(), at, order=1, mode="grid-constant"
    )
    squares = ((np.stack(warped) - fixed[0].numpy()) ** 2).sum(axis=0)
    expected = (seen * squares).sum() / seen.sum()
    assert data_term((fixed, moving), (masks[0], masks[1]), disp) == pytest.approx(expected)


def test_a_field_that_leads_out_of_the_moving_scan_is_the_worst() -> None:
    maps, masks = torch.ones(2, 1, 1, *SHAPE), torch.ones(2, 1, 1, *SHAPE)
    away = torch.full((1, 3, 2, 2, 2), 50.0)
    assert data_term((maps[0], maps[1]), (masks[0], masks[1]), away) == float("inf")
