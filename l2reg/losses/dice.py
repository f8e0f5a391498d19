"""Soft Dice loss: overlap of the warped moving and the fixed segmentation."""

import torch
from torch import nn

from l2reg.geometry.warp import warp
from l2reg.losses.objective import Aligned
from l2reg.shapes import Field, LabelMap, OneHot, PerPair


def soft_dice_loss(warped: OneHot, fixed: OneHot, *, volume_exponent: float) -> PerPair:
    """Return ``1 - Dice``, averaged over the labels: 0 for equal segmentations.

    Squared denominator (Milletari et al. 2016), as in TransMorph and Estienne et al.

    Args:
        warped: Moving labels on the fixed grid, in [0, 1].
        fixed: Fixed labels, 0 or 1.
        volume_exponent: Exponent of the labels' volumes: a label of v fixed voxels has the weight
            ``v ** -volume_exponent``. At 0 all labels count alike, at 1 a label of half the size
            counts twice as much.
    """
    axes = (2, 3, 4)
    overlap = 2 * (warped * fixed).sum(dim=axes)
    total = (warped.square() + fixed.square()).sum(dim=axes)
    weights = fixed.sum(dim=axes).clamp(min=1) ** -volume_exponent
    losses = 1 - overlap / total.clamp(min=1e-5)
    return (losses * weights).sum(dim=1) / weights.sum(dim=1)


def warped_dice_loss(
    fixed: LabelMap, moving: LabelMap, disp: Field, *, volume_exponent: float
) -> PerPair:
    """Return ``soft_dice_loss`` over the labels that both scans of a pair have.

    Labels are warped as one-hot volumes with linear interpolation: nearest-neighbour interpolation
    has no gradient, and label values must not be averaged. Outside the moving volume there is no
    label, as in the official evaluation. The loss is 0 for a pair without a common label.
    """
    losses = []
    for pair in range(len(fixed)):
        fixed_labels, moving_labels = fixed[pair : pair + 1], moving[pair : pair + 1]
        common = sorted((_values(fixed_labels) & _values(moving_labels)) - {0})
        if common:
            values = torch.tensor(common, device=fixed.device).view(1, -1, 1, 1, 1)
            one_hot = (moving_labels == values).float()
            warped = warp(one_hot, disp[pair : pair + 1], padding="zeros")
            target = (fixed_labels == values).float()
            losses.append(soft_dice_loss(warped, target, volume_exponent=volume_exponent)[0])
        else:
            losses.append(disp[pair].sum() * 0)
    return torch.stack(losses)


def _values(labels: LabelMap) -> set[int]:
    return set(torch.unique(labels).tolist())


class Dice(nn.Module):
    """``warped_dice_loss`` times the pair's label weight, which is 0 if a scan has no labels.

    Args:
        volume_exponent: See ``soft_dice_loss``; 0 or more.
    """

    def __init__(self, volume_exponent: float) -> None:
        super().__init__()
        if volume_exponent < 0:
            raise ValueError(f"volume_exponent must be 0 or more, got {volume_exponent}")
        self.volume_exponent = volume_exponent

    def forward(self, aligned: Aligned) -> PerPair:
        """Compare the warped moving segmentations with the fixed ones."""
        batch = aligned.batch
        loss = warped_dice_loss(
            batch["fixed_labels"],
            batch["moving_labels"],
            aligned.prediction.disp,
            volume_exponent=self.volume_exponent,
        )
        return loss * batch["label_weight"]
