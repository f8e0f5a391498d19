"""Segmentation loss: Dice and cross-entropy of a network's segmentations of both scans."""

import torch
from torch import nn

from l2reg.losses.dice import soft_dice_loss
from l2reg.losses.objective import Aligned
from l2reg.problems import InputError, Problem
from l2reg.shapes import LabelMap, OneHot, PerPair


def segmentation_loss(logits: OneHot, labels: LabelMap) -> PerPair:
    """Return the soft Dice loss plus the cross-entropy, over the labels that each scan has.

    A label that a scan lacks may just not be annotated: its probability counts as background
    (marginal loss, Shi et al. 2021). The loss is 0 for a scan without labels.

    Args:
        logits: Logits of the labels, one channel per label, the background first.
        labels: Label maps, whose values are indices of channels.

    Raises:
        InputError: If a label has no channel.
    """
    losses = []
    for scores, label_map in zip(logits.float(), labels, strict=True):
        present = sorted(set(torch.unique(label_map).tolist()) - {0})
        if not present:
            losses.append(scores.sum() * 0)
            continue
        if present[-1] >= len(scores):
            raise InputError(_too_few_labels(len(scores) - 1, present[-1]))
        logs = scores.log_softmax(dim=0)
        others = [label for label in range(len(scores)) if label not in present]
        logs = torch.cat([logs[others].logsumexp(dim=0, keepdim=True), logs[present]])
        values = torch.tensor([0, *present], device=label_map.device).view(-1, 1, 1, 1)
        target = (label_map == values).float()
        entropy = -(target * logs).sum(dim=0).mean()
        dice = soft_dice_loss(logs[None, 1:].exp(), target[None, 1:], volume_exponent=0.0)[0]
        losses.append(dice + entropy)
    return torch.stack(losses)


class Segmentation(nn.Module):
    """Mean ``segmentation_loss`` of both scans, times the pair's label weight."""

    deep_supervision = False  # coarser levels have no segmentations

    def forward(self, aligned: Aligned) -> PerPair:
        """Compare the predicted segmentations of both scans with their label maps.

        Raises:
            InputError: If the network predicts no segmentations.
        """
        segmentations, batch = aligned.prediction.segmentations, aligned.batch
        if segmentations is None:
            raise InputError(
                Problem(
                    where="loss term Segmentation",
                    what="needs a network that predicts segmentations",
                    expected="model=siamese_unet model.segmentation_labels=N, where N is the "
                    "number of labels of the task",
                    found="a network without a segmentation decoder",
                    remedy="set model.segmentation_labels, or loss.weights.segmentation=0",
                )
            )
        fixed = segmentation_loss(segmentations[0], batch["fixed_labels"])
        moving = segmentation_loss(segmentations[1], batch["moving_labels"])
        return (fixed + moving) / 2 * batch["label_weight"]


def _too_few_labels(segmentation_labels: int, largest_label: int) -> Problem:
    return Problem(
        where=f"model.segmentation_labels={segmentation_labels}",
        what="is smaller than the largest label of a scan",
        expected="the largest label of the task",
        found=f"label {largest_label}",
        remedy=f"set model.segmentation_labels={largest_label} or more",
    )
