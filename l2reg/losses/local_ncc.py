"""Local normalised cross-correlation (Avants et al. 2008, squared as in ANTs and VoxelMorph)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from l2reg.geometry.filters import box_mean_
from l2reg.losses.objective import Aligned, channel_mean, mean_dissimilarity
from l2reg.shapes import Image, Mask, PerPair

FLAT_VARIANCE = 1e-4  # of intensities in [0, 1]; a cube of less has no structure to compare


def local_ncc(fixed: Image, warped: Image, *, window: int) -> tuple[Image, Mask]:
    """Return the squared correlation of both images in a cube around every voxel.

    Variances below ``FLAT_VARIANCE`` are raised to it, so that a flat cube correlates with nothing.

    Args:
        fixed: Fixed image of one channel, with intensities of order 1.
        warped: Moving image on the fixed grid.
        window: Edge length of the cube, an odd number of voxels.

    Returns:
        The correlation: 1 where the images agree up to a local gain and offset, 0 where they are
        unrelated or the cube of either image is flat. The mask: 0 where the cubes of both images
        are flat, so that there is nothing to compare, else 1; it has no gradient.
    """
    centred = (_centre(image) for image in (fixed, warped))
    similarity, structured = _LocalNCC.apply(*centred, window)  # type: ignore[no-untyped-call]
    return similarity, structured


class _LocalNCC(torch.autograd.Function):
    """The correlation, with its gradient in closed form.

    With the transposed box filter T, and the derivatives ``a`` and ``b`` of the correlation with
    respect to the covariance and the variance of the warped image, the gradient is
    ``fixed * T(a) + 2 * warped * T(b) - T(a * fixed_mean + 2 * b * warped_mean)``; in the same way
    for the fixed image.
    """

    @staticmethod
    def forward(ctx: Any, fixed: Tensor, warped: Tensor, window: int) -> tuple[Tensor, Tensor]:
        images = [image.contiguous() for image in (fixed, warped)]
        means = [box_mean_(image.clone(), window) for image in images]
        covariance = box_mean_(images[0] * images[1], window).addcmul_(*means, value=-1)
        variances = [
            box_mean_(image.square(), window).addcmul_(mean, mean, value=-1)
            for image, mean in zip(images, means, strict=True)
        ]
        structured = torch.maximum(*variances) > FLAT_VARIANCE
        flat = [variance < FLAT_VARIANCE for variance in variances]
        first, second = (variance.clamp_(min=FLAT_VARIANCE) for variance in variances)
        by_covariance = covariance / first / second
        similarity = covariance.mul_(by_covariance)
        by_covariance.masked_fill_(similarity > 1, 0)
        ctx.window, ctx.kept = window, []
        for n in (0, 1):
            if ctx.needs_input_grad[n]:
                by_variance = (similarity / variances[n]).neg_().masked_fill_(flat[n], 0)
                by_variance.masked_fill_(similarity > 1, 0)
                constant = (by_covariance * means[1 - n]).addcmul_(by_variance, means[n])
                ctx.kept.append((n, by_variance, constant))
        ctx.save_for_backward(*images, by_covariance)
        mask = structured.to(similarity.dtype)
        ctx.mark_non_differentiable(mask)
        return similarity.clamp_(max=1), mask

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, gradient: Tensor, _: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None]:
        *images, by_covariance = ctx.saved_tensors
        gradient = 2 * gradient.contiguous()
        over_covariance = _transpose_mean(gradient * by_covariance, ctx.window)
        gradients: list[Tensor | None] = [None, None]
        for n, by_variance, constant in ctx.kept:
            total = images[1 - n] * over_covariance
            total.addcmul_(images[n], _transpose_mean(gradient * by_variance, ctx.window))
            gradients[n] = total.sub_(_transpose_mean(gradient * constant, ctx.window))
        return gradients[0], gradients[1], None


def _transpose_mean(volume: Image, window: int) -> Image:
    return box_mean_(volume, window, transposed=True)


def _centre(image: Image) -> Image:
    """Return ``image`` minus its mean, pair by pair: squares of large offsets lose all digits."""
    image = image.to(torch.promote_types(image.dtype, torch.float32))
    return image - image.detach().mean(dim=(1, 2, 3, 4), keepdim=True)


class LocalNCC(nn.Module):
    """One minus the mean of ``local_ncc``: 0 for a perfect match, 1 for unrelated images.

    Args:
        window: Edge length of the cube, an odd number of voxels of the working grid; or several,
            whose losses are averaged.
    """

    def __init__(self, window: int | Sequence[int]) -> None:
        super().__init__()
        self.windows = [window] if isinstance(window, int) else list(window)
        if not self.windows or any(edge < 3 or edge % 2 == 0 for edge in self.windows):
            raise ValueError(
                "window must be an odd number of voxels, at least 3, or a list of such; got "
                f"{window}"
            )
        self.min_size = max(self.windows)

    def forward(self, aligned: Aligned) -> PerPair:
        """Compare warped and fixed image; local gain and offset have no influence."""
        return channel_mean(self._of_channel, aligned)

    def _of_channel(self, aligned: Aligned) -> PerPair:
        return torch.stack([self._loss(aligned, window) for window in self.windows]).mean(dim=0)

    @staticmethod
    def _loss(aligned: Aligned, window: int) -> PerPair:
        batch = aligned.batch
        similarity, structured = local_ncc(batch["fixed"], aligned.warped, window=window)
        masks = (aligned.mask * structured, batch["fixed_mask"] * structured)
        return mean_dissimilarity(1 - similarity, *masks)
