"""Histogram matching: intensities of the moving scan mapped to those of the fixed scan."""

from dataclasses import dataclass

import torch
from torch import Tensor

from l2reg.shapes import Image, Maps


@dataclass(frozen=True)
class HistogramMatching:
    """Intensities, those of the moving scan mapped so that both scans have the same histogram.

    For scans of one modality: what differs between scanners is a mapping of intensities, what
    differs between tissues is kept, which local contrast would lose. Background (0) is left out
    and left as it is.

    Attributes:
        quantiles: Points of the mapping.
        samples: Voxels that the quantiles are taken of, at most.
    """

    quantiles: int
    samples: int

    def __call__(self, fixed: Image, moving: Image) -> tuple[Maps, Maps]:
        """Return one channel of each."""
        pairs = zip(fixed, moving, strict=True)
        return fixed, torch.stack([self._matched(one, other) for one, other in pairs])

    def _matched(self, fixed: Tensor, moving: Tensor) -> Tensor:
        here, there = self._quantiles(moving), self._quantiles(fixed)
        if here is None or there is None:
            return moving
        above = torch.searchsorted(here, moving.contiguous()).clamp(1, len(here) - 1)
        low, high = here[above - 1], here[above]
        share = ((moving - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
        mapped = torch.lerp(there[above - 1], there[above], share)
        return torch.where(moving > 0, mapped, moving)

    def _quantiles(self, image: Tensor) -> Tensor | None:
        values = image[image > 0]
        if len(values) < self.quantiles:
            return None
        values = values[:: -(-len(values) // self.samples)]
        at = torch.linspace(0, 1, self.quantiles, device=image.device, dtype=image.dtype)
        return torch.quantile(values, at)
