"""Intensity normalisation of scans to [0, 1], where 0 is the background outside the body."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32

Array = Float32[np.ndarray, "i j k"]
Region = Bool[np.ndarray, "i j k"]

_BINS = 256  # of a histogram
_SMOOTHED = 5  # bins
_DARK = 0.3  # of the range of intensities; the most frequent one of a background is below
_MASKED = 0.5  # fraction of equal voxels of a background that is no noise
_INTERPOLATED = 0.1  # of the highest intensity: undershoots of interpolation are smaller


@runtime_checkable
class Intensity(Protocol):
    """Normalisation of the scans of one modality; its ``repr`` is part of the cache key."""

    def __call__(self, image: Array, region: Region | None = None) -> Array:
        """Return ``image`` with values in [0, 1].

        Args:
            image: Intensities of a scan.
            region: Voxels that the normalisation may be computed from; all by default.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Window:
    """Window of Hounsfield units: ``low`` and below becomes 0, ``high`` and above 1."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if self.low >= self.high:
            raise ValueError(f"window must have low < high, got low={self.low}, high={self.high}")

    def __str__(self) -> str:
        return f"the window from {self.low:g} to {self.high:g} HU"

    def __call__(self, image: Array, region: Region | None = None) -> Array:
        """Return ``image``, scaled linearly and clipped to [0, 1]; ``region`` changes nothing."""
        del region
        scaled: Array = (image - np.float32(self.low)) / np.float32(self.high - self.low)
        windowed: Array = np.clip(scaled, 0, 1)
        return windowed


@dataclass(frozen=True, kw_only=True)
class Percentiles:
    """Window between two percentiles of the voxels that are not background, for MR.

    Zero marks voxels outside the scanned region in MR, and stays 0. In a scan with negative
    intensities, as a CT in Hounsfield units, zero is an intensity like any other.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 100:
            raise ValueError(
                f"percentiles must satisfy 0 <= low < high <= 100, got {self.low}, {self.high}"
            )

    def __str__(self) -> str:
        return f"the percentiles {self.low:g} to {self.high:g} of voxels that are not background"

    def __call__(self, image: Array, region: Region | None = None) -> Array:
        """Return ``image``, scaled between its percentiles and clipped to [0, 1].

        Args:
            image: Intensities of a scan.
            region: Voxels that the percentiles are taken from; all by default.
        """
        background = image == 0
        if image.min() < 0 and self._is_signed(_values(image, region)):
            background[:] = False
        signal = _values(image, ~background if region is None else region & ~background)
        if signal.size == 0:
            return np.zeros_like(image)
        low, high = np.percentile(signal, [self.low, self.high]).astype(np.float32)
        normalised: Array = image - low
        normalised /= max(high - low, np.finfo(np.float32).tiny)
        np.clip(normalised, 0, 1, out=normalised)
        np.copyto(normalised, 0, where=background)
        return normalised

    def _is_signed(self, intensities: Float32[np.ndarray, "..."]) -> bool:
        """Tell signed intensities from small negative ones, as interpolation leaves them."""
        if intensities.size == 0 or intensities.min() >= 0:
            return False
        low, high = np.percentile(intensities, [self.low, self.high])
        return bool(low < -_INTERPOLATED * max(high, 0))


@dataclass(frozen=True, kw_only=True)
class PercentilesAboveNoise(Percentiles):
    """As ``Percentiles``, but a noisy background becomes 0, for MR with dark surroundings.

    With noise no voxel of the background is exactly 0, and the low percentile would be one of the
    noise. Its level is the most frequent intensity, if this is dark and hardly any two voxels
    around it are equal, as they are in scans whose background was masked.
    """

    def __call__(self, image: Array, region: Region | None = None) -> Array:
        """Return ``image``, scaled from the background's level, or the low percentile, and clipped.

        Args:
            image: Intensities of a scan.
            region: Voxels that level and percentiles are taken from; all by default.
        """
        values = _values(image, region)
        level, top = _noise(values)
        signal = values[values > top]
        if signal.size == 0:
            return super().__call__(image, region)
        high = np.percentile(signal, self.high).astype(np.float32)
        normalised: Array = image - level
        normalised /= high - level
        return np.clip(normalised, 0, 1, out=normalised)


def _values(image: Array, region: Region | None) -> Float32[np.ndarray, " n"]:
    """Return the values of a region, all by default, in the order in which they lie in memory."""
    if image.flags.f_contiguous:  # as read from a file: any other order takes ten times as long
        image, region = image.T, None if region is None else region.T
    return image.ravel() if region is None else image[np.ascontiguousarray(region)]


def _noise(values: Float32[np.ndarray, " n"]) -> tuple[np.float32, np.float32]:
    """Return the level of a noisy background and where its noise ends; infinity if there is none.

    The noise is as far above its level as below.
    """
    none = (np.float32(np.inf), np.float32(np.inf))
    if values.size == 0:
        return none
    lowest, highest = np.percentile(values, [0.1, 99.9]).astype(np.float32)
    if lowest == highest:
        return none
    counts, edges = np.histogram(values, _BINS, (float(lowest), float(highest)))
    frequent = int(np.convolve(counts, np.ones(_SMOOTHED), "same").argmax())
    if frequent > _DARK * _BINS:
        return none
    level = np.float32((edges[frequent] + edges[frequent + 1]) / 2)
    top = 2 * level - lowest
    around = values[(values >= lowest) & (values <= top)]
    _, repeats = np.unique(around, return_counts=True)
    return none if repeats.max() > _MASKED * around.size else (level, top)
