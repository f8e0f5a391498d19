"""Training objective: weighted loss terms, returned by name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from l2reg.batch import Batch, resize_batch
from l2reg.geometry.constants import constant
from l2reg.geometry.resize import voxel_ratio
from l2reg.geometry.warp import inside_volume, warp
from l2reg.losses.weight_schedule import weight_schedule
from l2reg.models.prediction import Prediction
from l2reg.shapes import Field, Image, Mask, PerPair, Scalar

MIN_OVERLAP = 0.1  # of the fixed mask; below it a similarity is that of too few voxels to trust


@dataclass(frozen=True)
class Aligned:
    """One batch after registration: the input of a loss term.

    Attributes:
        prediction: The predicted field and the quantities that it was computed from.
        warped: Moving image on the fixed grid.
        mask: Weight of every fixed voxel, in [0, 1]: 1 where both images show the body, see
            ``overlap_mask``. It has no gradient.
        batch: The batch on the grid of the field, see ``data.reader.PairReader.read``.
    """

    prediction: Prediction
    warped: Image
    mask: Mask
    batch: Batch

    @property
    def channels(self) -> "list[Aligned]":
        """The same of each channel of the images alone."""
        fixed, moving = self.batch["fixed"], self.batch["moving"]
        if self.warped.shape[1] == 1:
            return [self]
        batches: list[Batch] = [
            {**self.batch, "fixed": fixed[:, n : n + 1], "moving": moving[:, n : n + 1]}
            for n in range(fixed.shape[1])
        ]
        return [
            replace(self, warped=self.warped[:, n : n + 1], batch=batch)
            for n, batch in enumerate(batches)
        ]


def channel_mean(loss: Callable[[Aligned], PerPair], aligned: Aligned) -> PerPair:
    """Return the mean of a loss of images of one channel over the channels."""
    losses = [loss(each) for each in aligned.channels]
    return losses[0] if len(losses) == 1 else torch.stack(losses).mean(dim=0)


class Objective(nn.Module):
    """Weighted loss terms, by name.

    The terms are returned one by one: the trainer sums them and the logger records each. Weights
    are applied in this class alone. A term of weight 0 is not computed. In evaluation mode the
    weights are those at the end of their schedules, so that losses of all steps compare.

    Args:
        terms: Modules that map ``Aligned`` to one value per pair. A pair that lacks what a term
            needs has the value 0 and counts in the mean, so that N ranks of B pairs are equal to
            one rank of N*B pairs.
        weights: Weight of each term, 0 or more, or its schedule (``losses.weight_schedule``).
        level_weights: Weights of deep supervision: factors of all terms for the fields of coarser
            levels, finest first, if the network returns any. Their sum is the term ``levels``. A
            term whose attribute ``deep_supervision`` is false is left out there.
    """

    def __init__(
        self,
        terms: Mapping[str, nn.Module],
        weights: Mapping[str, Any],
        level_weights: Sequence[float] = (),
    ) -> None:
        super().__init__()
        if terms.keys() != weights.keys():
            raise ValueError(
                "every loss term needs exactly one weight\n"
                f"  terms    {sorted(terms)}\n"
                f"  weights  {sorted(weights)}"
            )
        schedules = {name: weight_schedule(name, weight) for name, weight in weights.items()}
        used = [name for name, s in schedules.items() if max(s.first, s.last) > 0]
        self.terms = nn.ModuleDict({n: term for n, term in terms.items() if n in used})
        self.schedules = {name: schedules[name] for name in used}
        self.step = 0
        self.level_weights = list(level_weights)

    @property
    def weights(self) -> dict[str, float]:
        """The present weight of each term that has one above 0 at some step."""
        if not self.training:
            return {name: schedule.last for name, schedule in self.schedules.items()}
        return {name: schedule.at(self.step) for name, schedule in self.schedules.items()}

    def set_step(self, step: int) -> None:
        """Choose the weights of a training step, counted from 0."""
        self.step = step

    def scheduled_weights(self) -> dict[str, float]:
        """Return the present weights of the terms whose weight changes over the steps."""
        changing = [name for name, s in self.schedules.items() if s.first != s.last]
        return {name: weight for name, weight in self.weights.items() if name in changing}

    def forward(self, prediction: Prediction, batch: Batch) -> dict[str, Scalar]:
        """Return the weighted mean of each term over the pairs, in float32 even under autocast."""
        with torch.autocast(batch["fixed"].device.type, enabled=False):
            terms = self._weighted_terms(dict(self.terms.items()), prediction, batch)
            deep = [
                weight * term
                for weight, level in zip(self.level_weights, prediction.levels, strict=False)
                if weight > 0
                for term in self._terms_of_level(level, batch).values()
            ]
            return {**terms, "levels": torch.stack(deep).sum()} if deep else terms

    def _terms_of_level(self, level: Prediction, batch: Batch) -> dict[str, Scalar]:
        """Return the weighted terms of a coarser level's field, on the grid of that level."""
        i, j, k = level.disp.shape[2:]
        terms = {
            n: term for n, term in self.terms.items() if getattr(term, "deep_supervision", True)
        }
        spacing_mm = batch["spacing_mm"]
        ratio = constant(spacing_mm, voxel_ratio(batch["fixed"].shape[2:], (i, j, k)))
        coarse = resize_batch(batch, (i, j, k), masks="nearest")
        # A quotient, as in earlier runs: equal to the last digit, so that they resume bit for bit
        coarse = {**coarse, "spacing_mm": spacing_mm / ratio}
        return self._weighted_terms(terms, level, coarse)

    def _weighted_terms(
        self, terms: Mapping[str, nn.Module], prediction: Prediction, batch: Batch
    ) -> dict[str, Scalar]:
        """Return the weighted mean over the pairs of each term."""
        aligned = Aligned(
            prediction=prediction,
            warped=warp(batch["moving"], prediction.disp),
            mask=overlap_mask(prediction.disp, batch),
            batch=batch,
        )
        weights = self.weights
        present = [name for name in terms if weights[name] > 0] or list(terms)
        values = {name: terms[name](aligned) for name in present}
        if prediction.smoothness is not None and "smoothness" in values:
            values["smoothness"] = values["smoothness"] * prediction.smoothness
        return {name: weights[name] * value.mean() for name, value in values.items()}


@torch.no_grad()
def overlap_mask(disp: Field, batch: Batch) -> Mask:
    """Return the weight of every fixed voxel in a comparison, in [0, 1].

    It is the fixed mask times the moving mask where ``disp`` samples it, and 0 outside the moving
    volume, as in a refinement (``optimisation.gauss_newton``).
    """
    sampled = warp(batch["moving_mask"], disp, padding="zeros")
    return batch["fixed_mask"] * sampled * inside_volume(disp, batch["moving"].shape[2:])


def mean_dissimilarity(values: Image, mask: Mask, fixed_mask: Mask) -> PerPair:
    """Return the mean of ``values`` over channels and the voxels of ``mask``, for each pair.

    A field gains nothing by leading out of the moving scan: where ``mask`` has less than
    ``MIN_OVERLAP`` of the voxels of ``fixed_mask``, the missing ones count with the worst value.
    The mean of a pair without a fixed mask is 0.

    Args:
        values: Dissimilarities, 0 at best and 1 at worst.
        mask: Weight of every voxel, in [0, 1]; ``Aligned.mask``.
        fixed_mask: 1 for the fixed voxels that should be compared, else 0.
    """
    axes = (1, 2, 3, 4)
    total = (values.mean(dim=1, keepdim=True) * mask).sum(dim=axes)
    n_voxels = mask.sum(dim=axes)
    n_missing = (MIN_OVERLAP * fixed_mask.sum(dim=axes) - n_voxels).clamp(min=0)
    return (total + n_missing) / (n_voxels + n_missing).clamp(min=1e-6)


def masked_mean(values: Image, mask: Mask) -> PerPair:
    """Return the mean of ``values`` over channels and the voxels of ``mask``, for each pair.

    The mean over an empty mask is 0.
    """
    total = (values * mask).sum(dim=(1, 2, 3, 4))
    return total / (mask.sum(dim=(1, 2, 3, 4)) * values.shape[1]).clamp(min=1)
