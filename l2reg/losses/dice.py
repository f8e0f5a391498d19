"""Soft Dice loss: overlap of the warped moving and the fixed segmentation."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from l2reg.losses.label_overlap import label_overlap
from l2reg.losses.objective import Aligned
from l2reg.shapes import Field, LabelMap, OneHot, PerPair

PerLabel = Float[Tensor, "*b l"]


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
    volumes = fixed.sum(dim=axes)
    overlap, squares = (warped * fixed).sum(dim=axes), warped.square().sum(dim=axes)
    return _dice_loss(overlap, squares + fixed.square().sum(dim=axes), volumes, volume_exponent)


def warped_dice_loss(
    fixed: LabelMap, moving: LabelMap, disp: Field, *, volume_exponent: float
) -> PerPair:
    """Return ``soft_dice_loss`` over the labels that both scans of a pair have.

    Labels are warped as one-hot volumes with linear interpolation (``label_overlap``):
    nearest-neighbour interpolation has no gradient, and label values must not be averaged. Outside
    the moving volume there is no label, as in the official evaluation. The loss is 0 for a pair
    without a common label.

    Returns:
        float32, or float64 if ``disp`` is.
    """
    losses = []
    for pair in range(len(fixed)):
        fixed_labels, moving_labels = fixed[pair : pair + 1], moving[pair : pair + 1]
        volumes = _volumes(fixed_labels)
        common = sorted(volumes.keys() & _volumes(moving_labels).keys() - {0})
        if common:
            part = disp[pair : pair + 1]
            overlap, squares = label_overlap(fixed_labels, moving_labels, part, common)
            fixed_volumes = overlap.new_tensor([volumes[label] for label in common])
            total = squares + fixed_volumes
            losses.append(_dice_loss(overlap, total, fixed_volumes, volume_exponent))
        else:
            losses.append(disp[pair].sum() * 0)
    return torch.stack([loss.to(torch.promote_types(disp.dtype, torch.float32)) for loss in losses])


def _dice_loss(
    overlap: PerLabel, total: PerLabel, volumes: PerLabel, volume_exponent: float
) -> Float[Tensor, "*b"]:
    """Return ``1 - Dice`` averaged over the labels, from the sums over voxels."""
    weights = volumes.clamp(min=1) ** -volume_exponent
    losses = 1 - 2 * overlap / total.clamp(min=1e-5)
    return (losses * weights).sum(dim=-1) / weights.sum(dim=-1)


def _volumes(labels: LabelMap) -> dict[int, int]:
    """Return the number of voxels of every label."""
    low = int(labels.min())
    counts = torch.bincount((labels.int() - low).flatten())
    present = counts.nonzero()[:, 0]
    return {
        low + n: count for n, count in zip(present.tolist(), counts[present].tolist(), strict=True)
    }


class Dice(nn.Module):
    """``warped_dice_loss`` times the pair's label weight, which is 0 if a scan has no labels.

    Args:
        volume_exponent: See ``soft_dice_loss``; 0 or more.
        deep_supervision: Whether the fields of coarser levels are compared too.
    """

    def __init__(self, volume_exponent: float, deep_supervision: bool = True) -> None:
        super().__init__()
        if volume_exponent < 0:
            raise ValueError(f"volume_exponent must be 0 or more, got {volume_exponent}")
        self.volume_exponent = volume_exponent
        self.deep_supervision = deep_supervision  # checkpoints of earlier builds have no such key

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
