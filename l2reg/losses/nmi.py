"""Normalised mutual information of intensities (Studholme et al. 1999), with Parzen windows.

The joint histogram is differentiable as every voxel counts in four bins along each axis, with the
weights of a cubic B-spline (Mattes et al. 2003).
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from l2reg.losses.objective import MIN_OVERLAP, Aligned, channel_mean
from l2reg.shapes import PerPair, Scalar

Values = Float[Tensor, " n"]
_NO_RANGE = 1e-6  # smallest range of intensities, for flat images


def normalised_mutual_information(
    fixed: Values, warped: Values, weights: Values, *, n_bins: int
) -> Scalar:
    """Return ``(H(fixed) + H(warped)) / H(fixed, warped)``: 1 for independent images, 2 at most.

    Windows blur the histogram, so that even a scan compared with itself stays below 2.

    Args:
        fixed: Intensities of the fixed image.
        warped: Those of the moving image at the same positions.
        weights: Weight of every position, in [0, 1].
        n_bins: Number of bins for each image; the range of its intensities is that of the positions
            with a weight.
    """
    rows, columns = (_parzen_window(values, weights, n_bins) for values in (fixed, warped))
    joint = fixed.new_zeros(n_bins * n_bins)
    for row, row_weight in zip(*rows, strict=True):
        for column, column_weight in zip(*columns, strict=True):
            counted = row_weight * column_weight * weights
            joint = joint.index_add(0, row * n_bins + column, counted)
    joint = (joint / joint.sum().clamp(min=1e-12)).view(n_bins, n_bins)
    separate = _entropy(joint.sum(dim=1)) + _entropy(joint.sum(dim=0))
    return separate / _entropy(joint).clamp(min=1e-6)


def _parzen_window(
    values: Values, weights: Values, n_bins: int
) -> tuple[Int[Tensor, "4 n"], Float[Tensor, "4 n"]]:
    """Return the four bins around every value, and the cubic B-spline's weights there."""
    inside = values.detach()[weights > 0]
    low, high = inside.aminmax() if len(inside) else (values.new_zeros(()), values.new_ones(()))
    scaled = (values - low) / (high - low).clamp(min=_NO_RANGE)
    position = 1 + scaled.clamp(0, 1) * (n_bins - 3)
    first = position.detach().floor().clamp(max=n_bins - 3)
    t = position - first
    spline = [
        (1 - t) ** 3 / 6,
        (3 * t**3 - 6 * t**2 + 4) / 6,
        (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6,
        t**3 / 6,
    ]
    bins = torch.stack([first + offset for offset in (-1, 0, 1, 2)]).long()
    return bins, torch.stack(spline)


def _entropy(probabilities: Tensor) -> Scalar:
    return -torch.xlogy(probabilities, probabilities.clamp(min=1e-12)).sum()


class NMI(nn.Module):
    """Mutual information that the warped image lacks compared with the fixed one itself.

    0 for equal images, about 1 for independent ones. Where fixed and moving mask hardly overlap,
    the missing voxels count as independent (``MIN_OVERLAP``).

    Args:
        n_bins: Number of bins for each image, 8 or more.
        n_samples: Largest number of voxels, evenly spaced in the volume; memory and time grow with
            it, not with the bins.
    """

    def __init__(self, n_bins: int, n_samples: int) -> None:
        super().__init__()
        if n_bins < 8 or n_samples < 1:
            raise ValueError(f"n_bins must be 8, n_samples 1 or more; got {n_bins}, {n_samples}")
        self.n_bins = n_bins
        self.n_samples = n_samples

    def forward(self, aligned: Aligned) -> PerPair:
        """Compare how well each image's intensities tell those of the other."""
        return channel_mean(self._of_channel, aligned)

    def _of_channel(self, aligned: Aligned) -> PerPair:
        batch = aligned.batch
        n_voxels = batch["fixed"][0].numel()
        n_samples = min(self.n_samples, n_voxels)
        chosen = torch.arange(n_samples, device=batch["fixed"].device) * n_voxels // n_samples
        volumes = (batch["fixed"], aligned.warped, aligned.mask, batch["fixed_mask"])
        sampled = [volume.flatten(1)[:, chosen].float() for volume in volumes]
        return torch.stack([self._of_pair(*pair) for pair in zip(*sampled, strict=True)])

    def _of_pair(self, fixed: Values, warped: Values, mask: Values, fixed_mask: Values) -> Scalar:
        best = normalised_mutual_information(fixed, fixed, mask, n_bins=self.n_bins)
        found = normalised_mutual_information(fixed, warped, mask, n_bins=self.n_bins)
        loss = (best.detach() - found) / (best.detach() - 1).clamp(min=1e-6)
        needed = MIN_OVERLAP * fixed_mask.sum()
        missing = (needed - mask.sum()).clamp(min=0) / needed.clamp(min=1e-6)
        return loss.lerp(torch.ones_like(loss), missing)
