"""Segmentations that a network makes of both scans beside its field."""

import torch
from torch import nn

from l2reg.losses.dice import soft_dice_loss
from l2reg.losses.objective import Aligned
from l2reg.problems import InputError, Problem
from l2reg.shapes import LabelMap, OneHot, PerPair


def segmentation_loss(logits: OneHot, labels: LabelMap) -> PerPair:
    """Return the soft Dice loss plus the cross-entropy, over the labels that each scan has.

    Labels that a scan lacks may not have been drawn: what the network takes for them counts as
    background (marginal loss, Shi et al. 2021). 0 for a scan without labels.

    Args:
        logits: One channel per label; that of the background is the first.
        labels: Numbers of channels.

    Raises:
        InputError: If there are more labels than channels.
    """
    losses = []
    for scores, here in zip(logits.float(), labels, strict=True):
        present = sorted(set(torch.unique(here).tolist()) - {0})
        if not present:
            losses.append(scores.sum() * 0)
            continue
        if present[-1] >= len(scores):
            raise InputError(_too_few(len(scores) - 1, present[-1]))
        logs = scores.log_softmax(dim=0)
        others = [label for label in range(len(scores)) if label not in present]
        logs = torch.cat([logs[others].logsumexp(dim=0, keepdim=True), logs[present]])
        numbers = torch.tensor([0, *present], device=here.device).view(-1, 1, 1, 1)
        target = (here == numbers).float()
        entropy = -(target * logs).sum(dim=0).mean()
        dice = soft_dice_loss(logs[None, 1:].exp(), target[None, 1:], volume_exponent=0.0)[0]
        losses.append(dice + entropy)
    return torch.stack(losses)


class Segmentation(nn.Module):
    """``segmentation_loss`` of both scans, times the weight of a pair's labels."""

    deep_supervision = False  # coarser levels have fields alone

    def forward(self, aligned: Aligned) -> PerPair:
        """Compare both scans' segmentations with their labels.

        Raises:
            InputError: If the network makes none.
        """
        made, batch = aligned.prediction.segmentations, aligned.batch
        if made is None:
            raise InputError(
                Problem(
                    where="loss term Segmentation",
                    what="needs a network that segments",
                    expected="model=siamese_unet model.segmentation_labels=N, N the task's labels",
                    found="a network without a second decoder",
                    remedy="set model.segmentation_labels, or loss.weights.segmentation=0",
                )
            )
        fixed = segmentation_loss(made[0], batch["fixed_labels"])
        moving = segmentation_loss(made[1], batch["moving_labels"])
        return (fixed + moving) / 2 * batch["label_weight"]


def _too_few(joint: int, found: int) -> Problem:
    return Problem(
        where=f"model.segmentation_labels={joint}",
        what="is less than the scans have labels",
        expected="the number of the task's last label",
        found=f"label {found}",
        remedy=f"set model.segmentation_labels={found} or more",
    )
