"""Histogram matching: intensities of the moving scan mapped to those of the fixed scan."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from l2reg.shapes import Image, Maps


@dataclass(frozen=True)
class HistogramMatching:
    """Intensities of both scans, with the histogram of the moving scan matched to the fixed scan's.

    For scans of one modality: it removes the different intensity scales of scanners and keeps the
    intensities of tissues, which local contrast would lose. The mapping is linear between
    corresponding quantiles, and from 0 to the lowest of them. Background is not counted, nor is
    what interpolation leaves of the foreground at its edge: it depends on the resolution.

    Attributes:
        quantiles: Number of quantiles that define the mapping.
        samples: Largest number of voxels that the quantiles are computed from.
        background: Intensity up to which a voxel counts as background.
    """

    quantiles: int
    samples: int
    background: float

    @property
    def reach(self) -> int:
        """Distance in voxels up to which the features of a voxel depend on others."""
        return 0

    def __call__(self, fixed: Image, moving: Image) -> tuple[Maps, Maps]:
        """Return the fixed intensities and the mapped moving intensities, one channel each."""
        pairs = zip(fixed, moving, strict=True)
        return fixed, torch.stack([self._match(one, other) for one, other in pairs])

    def _match(self, fixed: Tensor, moving: Tensor) -> Tensor:
        """Return ``moving`` with its intensities mapped to those of ``fixed``."""
        source, target = self._quantiles(moving), self._quantiles(fixed)
        if source is None or target is None:
            return moving
        above = torch.searchsorted(source, moving.contiguous()).clamp(1, len(source) - 1)
        low, high = source[above - 1], source[above]
        fraction = ((moving - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
        mapped = torch.lerp(target[above - 1], target[above], fraction)
        return torch.where(moving > 0, mapped, moving)

    def _quantiles(self, image: Tensor) -> Tensor | None:
        """Return 0 and the quantiles of the foreground, or ``None`` if it has too few voxels."""
        values = image[image > self.background]
        if len(values) < self.quantiles:
            return None
        values = values[:: -(-len(values) // self.samples)]
        at = torch.linspace(0, 1, self.quantiles, device=image.device, dtype=image.dtype)
        return F.pad(torch.quantile(values, at), (1, 0))
