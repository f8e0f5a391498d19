"""Overlap of warped and fixed segmentations."""

import torch
from torch import nn

from l2reg.geometry.warp import warp
from l2reg.losses.objective import Aligned
from l2reg.shapes import Field, LabelMap, OneHot, PerPair


def soft_dice_loss(warped: OneHot, fixed: OneHot) -> PerPair:
    """Return ``1 - Dice``, averaged over the labels: 0 for equal segmentations.

    Squared denominator (Milletari et al. 2016), as in TransMorph and Estienne et al.
    """
    axes = (2, 3, 4)
    overlap = 2 * (warped * fixed).sum(dim=axes)
    total = (warped.square() + fixed.square()).sum(dim=axes)
    return (1 - overlap / total.clamp(min=1e-5)).mean(dim=1)


def warped_dice_loss(fixed: LabelMap, moving: LabelMap, disp: Field) -> PerPair:
    """Return ``soft_dice_loss`` over the labels that both scans of a pair have.

    Labels are warped as linear one-hot volumes: nearest lookups have no gradient, and label
    numbers must not be averaged. 0 for a pair without a common label.
    """
    losses = []
    for pair in range(len(fixed)):
        here, there = fixed[pair : pair + 1], moving[pair : pair + 1]
        common = sorted((_values(here) & _values(there)) - {0})
        if common:
            values = torch.tensor(common, device=fixed.device).view(1, -1, 1, 1, 1)
            one_hot = (there == values).float()
            warped = warp(one_hot, disp[pair : pair + 1])
            losses.append(soft_dice_loss(warped, (here == values).float())[0])
        else:
            losses.append(disp[pair].sum() * 0)
    return torch.stack(losses)


def _values(labels: LabelMap) -> set[int]:
    return set(torch.unique(labels).tolist())


class Dice(nn.Module):
    """``warped_dice_loss`` of the pairs that have labels on both sides, 0 for the others."""

    def forward(self, aligned: Aligned) -> PerPair:
        """Compare segmentations."""
        batch = aligned.batch
        loss = warped_dice_loss(
            batch["fixed_labels"], batch["moving_labels"], aligned.prediction.disp
        )
        return loss * batch["has_labels"]
