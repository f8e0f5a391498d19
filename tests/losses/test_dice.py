from collections.abc import Callable

import numpy as np
import pytest
import torch
from monai.losses import DiceLoss
from scipy.ndimage import map_coordinates

from l2reg.losses.dice import Dice, soft_dice_loss, warped_dice_loss
from l2reg.losses.objective import Aligned

SHAPE = (8, 9, 10)
NO_MOTION = torch.zeros(1, 3, *SHAPE)


def box(label: int, start: int) -> torch.Tensor:
    labels = torch.zeros(1, 1, *SHAPE, dtype=torch.int16)
    labels[..., start : start + 3, 2:6, 3:7] = label
    return labels


def test_monai_agrees(rng: torch.Generator) -> None:
    warped, fixed = (torch.rand(1, 4, *SHAPE, generator=rng) for _ in range(2))
    monai = DiceLoss(squared_pred=True, smooth_nr=0.0, smooth_dr=0.0)
    torch.testing.assert_close(
        soft_dice_loss(warped, fixed, volume_exponent=0.0).mean(), monai(warped, fixed)
    )


def test_equal_labels_cost_nothing_and_disjoint_ones_cost_1() -> None:
    same = box(7, 1)
    torch.testing.assert_close(
        warped_dice_loss(same, same, NO_MOTION, volume_exponent=0.0), torch.zeros(1)
    )
    torch.testing.assert_close(
        warped_dice_loss(box(7, 0), box(7, 4), NO_MOTION, volume_exponent=0.0), torch.ones(1)
    )


def test_the_field_that_moves_the_labels_together_costs_nothing() -> None:
    disp = NO_MOTION.clone()
    disp[:, 0] = 4.0
    torch.testing.assert_close(
        warped_dice_loss(box(7, 0), box(7, 4), disp, volume_exponent=0.0), torch.zeros(1)
    )


def test_a_label_ends_where_the_moving_volume_ends_as_in_the_official_score() -> None:
    """Rows 0-5, moved by 3, cover rows 3-8 of 0-8; repeated edge voxels would cover them all."""
    moving, fixed = torch.zeros(2, 1, 1, 12, 9, 10, dtype=torch.int16)
    moving[..., :6, :, :], fixed[..., :9, :, :] = 1, 1
    disp = torch.zeros(1, 3, 12, 9, 10)
    disp[:, 0] = -3
    at = np.mgrid[:12, :9, :10] + disp[0].numpy()
    official = map_coordinates(moving[0, 0].numpy(), at, order=0)
    a, b = official == 1, fixed[0, 0].numpy() == 1
    dice = 2 * (a & b).sum() / (a.sum() + b.sum())
    assert dice == pytest.approx(0.8)
    loss = warped_dice_loss(fixed, moving, disp, volume_exponent=0.0)
    assert float(1 - loss) == pytest.approx(dice)


def test_only_labels_of_both_scans_count() -> None:
    fixed = torch.maximum(box(7, 1), box(3, 5))
    moving = torch.maximum(box(7, 1), box(9, 5))
    torch.testing.assert_close(
        warped_dice_loss(fixed, moving, NO_MOTION, volume_exponent=0.0), torch.zeros(1)
    )


def test_a_pair_without_common_labels_costs_nothing_and_has_a_gradient_of_zero() -> None:
    disp = NO_MOTION.clone().requires_grad_()
    loss = warped_dice_loss(box(3, 1), box(9, 1), disp, volume_exponent=0.0)
    loss.sum().backward()
    assert loss.tolist() == [0.0]
    assert disp.grad is not None
    assert (disp.grad == 0).all()


def test_the_gradient_pulls_labels_together() -> None:
    disp = NO_MOTION.clone().requires_grad_()
    warped_dice_loss(box(7, 2), box(7, 3), disp, volume_exponent=0.0).sum().backward()
    assert disp.grad is not None
    assert disp.grad[:, 0].sum() < 0  # a larger displacement along i lowers the loss
    assert disp.grad[:, 0].abs().sum() > 10 * disp.grad[:, 1:].sum().abs()


def test_pairs_without_labels_count_with_0(aligned: Callable[..., Aligned]) -> None:
    image = torch.zeros(2, 1, *SHAPE)
    labels = {"fixed_labels": box(7, 0).repeat(2, 1, 1, 1, 1),
              "moving_labels": box(7, 4).repeat(2, 1, 1, 1, 1)}  # fmt: skip
    losses = Dice(volume_exponent=0.0)(
        aligned(image, image, label_weight=torch.tensor([1.0, 0.0]), **labels)
    )
    torch.testing.assert_close(losses, torch.tensor([1.0, 0.0]))


def test_the_volume_exponent_is_the_power_by_which_small_structures_count_more() -> None:
    """Label 1 overlaps, label 2 does not and has a third of its voxels."""
    fixed, moving = torch.maximum(box(1, 0), box(2, 4)), box(1, 0)
    fixed[..., 5:7, :, :][fixed[..., 5:7, :, :] == 2] = 0
    moving[..., 7, 2:6, 3:7] = 2
    for volume_exponent, ratio in ((0.0, 1.0), (0.5, 3**0.5), (1.0, 3.0)):
        loss = warped_dice_loss(fixed, moving, NO_MOTION, volume_exponent=volume_exponent)
        torch.testing.assert_close(loss, torch.tensor([ratio / (1 + ratio)]))
    with pytest.raises(ValueError, match="volume_exponent must be 0 or more"):
        Dice(volume_exponent=-1.0)
