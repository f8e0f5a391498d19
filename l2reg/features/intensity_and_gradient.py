"""Intensities and the magnitude of their gradient, as two maps of one scale."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from l2reg.features.extractor import FeatureExtractor
from l2reg.shapes import Image, Maps


def gradient_magnitude(image: Image) -> Image:
    """Return the Euclidean norm of the gradient, per voxel.

    Derivatives are central differences, at the border one-sided; along an axis of one voxel they
    are 0.
    """
    squares = torch.zeros_like(image)
    for axis in (2, 3, 4):
        if image.shape[axis] > 1:
            squares += torch.gradient(image, dim=axis)[0].square()
    return squares.sqrt()


@dataclass(frozen=True)
class IntensityAndGradient:
    """Intensities and the magnitude of their gradient, scaled by the contrast of the fixed scan.

    For scans of one modality. Edges lie where tissues meet whatever the intensity of the tissues,
    which differs between subjects and along a scan. Intensities are scaled such that those of the
    fixed scan's foreground have a given standard deviation: the mean squared difference then weighs
    as much against the smoothness of a field in scans of low and of high contrast.

    Attributes:
        intensities: Extractor of the intensities, one channel of each scan.
        background: Intensity up to which a voxel of the fixed scan is background.
        deviation: Standard deviation of the fixed scan's foreground after scaling, above 0.
        gradient_weight: Factor of the gradient's magnitude per voxel, 0 or more.
    """

    intensities: FeatureExtractor
    background: float
    deviation: float
    gradient_weight: float

    def __post_init__(self) -> None:
        if self.deviation <= 0 or self.gradient_weight < 0:
            raise ValueError(
                "deviation must be above 0 and gradient_weight 0 or more, "
                f"got {self.deviation}, {self.gradient_weight}"
            )

    @property
    def reach(self) -> int:
        """Distance in voxels up to which the features of a voxel depend on others."""
        return self.intensities.reach + 1

    def __call__(self, fixed: Image, moving: Image) -> tuple[Maps, Maps]:
        """Return two channels of each scan: intensities, and the magnitude of their gradient."""
        pair = self.intensities(fixed, moving)
        factor = self.deviation / self._contrast(pair[0])
        fixed_maps, moving_maps = (
            torch.cat([scaled, self.gradient_weight * gradient_magnitude(scaled)], dim=1)
            for scaled in (factor * pair[0], factor * pair[1])
        )
        return fixed_maps, moving_maps

    def _contrast(self, image: Image) -> Float[Tensor, "b 1 1 1 1"]:
        """Return the standard deviation of each foreground, or ``deviation`` if it has none."""
        foreground = (image > self.background).to(image.dtype)
        count = foreground.sum(dim=(1, 2, 3, 4), keepdim=True)
        mean = (image * foreground).sum(dim=(1, 2, 3, 4), keepdim=True) / count.clamp(min=1)
        squares = ((image - mean) * foreground).square().sum(dim=(1, 2, 3, 4), keepdim=True)
        contrast = (squares / count.clamp(min=1)).sqrt()
        return torch.where(contrast > 1e-6, contrast, torch.full_like(contrast, self.deviation))
