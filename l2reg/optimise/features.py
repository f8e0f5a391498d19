"""What is compared voxel by voxel when a pair is optimised: feature maps of both scans.

A class of features is called with the fixed and the moving image and returns a map of each, on
the same grids, whose squared difference says how badly the scans fit.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from l2reg.losses.local_ncc import box_mean
from l2reg.losses.mind import mind_ssc
from l2reg.shapes import Image

Maps = Float[Tensor, "b f i j k"]


@runtime_checkable
class Features(Protocol):
    """Makes feature maps of a pair."""

    def __call__(self, fixed: Image, moving: Image) -> tuple[Maps, Maps]:
        """Return the maps of the fixed and the moving image."""


@dataclass(frozen=True)
class Mind:
    """Self-similarity: for scans of different modalities (``losses.mind.mind_ssc``).

    Attributes:
        radius: Of the patches, in voxels of the grid at hand.
        dilation: Their distance, likewise.
    """

    radius: int
    dilation: int

    def __post_init__(self) -> None:
        if self.radius < 1 or self.dilation < 1:
            raise ValueError(
                f"radius and dilation must be 1 or more, got {self.radius}, {self.dilation}"
            )

    def __call__(self, fixed: Image, moving: Image) -> tuple[Maps, Maps]:
        """Return twelve channels of each."""
        first, second = (
            mind_ssc(image, radius=self.radius, dilation=self.dilation) for image in (fixed, moving)
        )
        return first, second


@dataclass(frozen=True)
class LocalContrast:
    """Intensities less their local mean, by their local standard deviation: blind to local gain.

    Their mean squared difference is twice one minus the local correlation, so that least squares
    optimise the local NCC.

    Attributes:
        radius: Of the cube around a voxel, in voxels.
        flat: Variance well below which a cube counts as flat.
    """

    radius: int
    flat: float = 1e-4

    def __post_init__(self) -> None:
        if self.radius < 1:
            raise ValueError(f"radius must be 1 or more, got {self.radius}")

    def __call__(self, fixed: Image, moving: Image) -> tuple[Maps, Maps]:
        """Return one channel of each."""
        return self._of(fixed), self._of(moving)

    def _of(self, image: Image) -> Image:
        window = 2 * self.radius + 1
        mean = box_mean(image, window)
        variance = (box_mean(image * image, window) - mean * mean).clamp(min=0)
        return (image - mean) / (variance + self.flat).sqrt()


@dataclass(frozen=True)
class MatchedIntensity:
    """Intensities, those of the moving scan mapped so that both scans have the same histogram.

    For scans of one modality: what differs between scanners is a mapping of intensities, what
    differs between tissues is kept, which local contrast would lose. Background (0) is left out
    and left as it is.

    Attributes:
        quantiles: Points of the mapping.
        samples: Voxels that the quantiles are taken of, at most.
    """

    quantiles: int = 256
    samples: int = 100_000

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
