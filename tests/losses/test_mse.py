import torch

from l2reg.losses.mse import mean_squared_error


def test_it_is_the_mean_square_inside_the_mask_pair_by_pair() -> None:
    fixed = torch.zeros(2, 1, 3, 4, 5)
    warped = torch.stack([torch.full((1, 3, 4, 5), 2.0), torch.full((1, 3, 4, 5), 3.0)])
    warped[:, :, 0] = 100.0
    mask = torch.ones_like(fixed)
    mask[:, :, 0] = 0
    assert mean_squared_error(fixed, warped, mask, mask).tolist() == [4.0, 9.0]
