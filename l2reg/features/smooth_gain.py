"""Gain of one scan relative to another that varies slowly, as the bias fields of MR do."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from l2reg.features.extractor import FeatureExtractor
from l2reg.shapes import Image, Maps

_MAX_SAMPLES = 60  # along an axis
_MIN_SAMPLES = 1000
_MIN_SHARE = 0.1  # of the foreground, of those that a fit uses
_SCALES = (4.0, 2.0, 1.0, 1.0)  # of the residuals of the fits that follow each other
_MAX_SLOPE = 1.0  # of a fit: its power is a third to three
_OWN_CONTRAST = 0.55  # logarithm of the power at which half of it is applied
_DARKEST = 1e-3  # intensity, in [0, 1], below which a power is none
_RIDGE = 1e-6  # of the sum of the weights
_MAX_LOG_GAIN = 1.1  # threefold; a power is so, too, at most

Axes = list[Float[Tensor, " _n"]]  # positions from -1 to 1 along i, j, k
Factors = Float64[Tensor, "10"]  # of a quadratic polynomial of the position


@dataclass(frozen=True)
class SmoothGain:
    """Intensities of both scans, those of the moving scan times a smooth gain and then matched.

    For scans of one modality that lie roughly on each other. The gain makes up for the bias fields
    of both: its logarithm is a quadratic polynomial of the position, fitted to that of the ratio of
    the intensities, first of the whole foreground, then of voxels that are bright in both scans,
    most of which show the same tissue. Ratios far from the fit hardly count. Anatomy that differs
    looks like a weak gain as well, so that weak ones are not applied.

    Before, the moving intensities are raised to a power, where one scan is much darker or brighter
    than the other between black and white (gamma): what is background would differ otherwise.

    Attributes:
        intensities: Extractor of the intensities after the gain, one channel of each scan.
        background: Intensity up to which a voxel is background.
        outlier: Distance from the fit, of logarithms, at which a ratio has a quarter of its weight.
        anatomy: Standard deviation of the logarithm of the gain over the foreground at which half
            of it is applied: much weaker ones are left, much stronger ones applied whole.
        iterations: Number of fits of the power, then of the gain, each to what is left so far.
    """

    intensities: FeatureExtractor
    background: float
    outlier: float
    anatomy: float
    iterations: int

    def __post_init__(self) -> None:
        if self.outlier <= 0 or self.anatomy <= 0 or self.iterations < 1:
            raise ValueError(
                "outlier and anatomy must be above 0 and iterations 1 or more, "
                f"got {self.outlier}, {self.anatomy}, {self.iterations}"
            )

    @property
    def reach(self) -> int:
        """Distance in voxels up to which the features of a voxel depend on others."""
        return self.intensities.reach

    def __call__(self, fixed: Image, moving: Image) -> tuple[Maps, Maps]:
        """Return the intensities of both scans, those of the moving scan after gain and matching.

        The gain itself depends on all voxels of both scans.
        """
        pairs = zip(torch.split(fixed, 1), torch.split(moving, 1), strict=True)
        return self.intensities(fixed, moving * torch.cat([self.gain(*pair) for pair in pairs]))

    def gain(self, fixed: Image, moving: Image) -> Image:
        """Return the factors of the moving intensities of one pair; 1 where nothing can be told."""
        axes = [_positions(n, fixed) for n in fixed.shape[2:]]
        every = [slice(None, None, -(-n // _MAX_SAMPLES)) for n in fixed.shape[2:]]
        sampled = [axis[step] for axis, step in zip(axes, every, strict=True)]
        one, other = fixed[:, :, *every], moving[:, :, *every]
        terms = _terms(sampled).double()
        power = self._power(one, other, terms)
        other = other.clamp(min=0) ** power
        foreground = (one > self.background) & (other > self.background)
        factors = terms.new_zeros(len(terms))
        bright, fewest = self.background, float(_MIN_SAMPLES)
        for _ in range(self.iterations):
            gain = _polynomial(factors, sampled).exp()
            brighter = other * gain
            used = ((one > bright) & (brighter > bright) & foreground).flatten()
            if int(used.sum()) < fewest:
                break
            ratios = one.flatten()[used] / brighter.flatten()[used]
            factors = factors + self._fit(terms[:, used], ratios.log().double())
            bright = float(one[foreground].mean())
            fewest = max(_MIN_SAMPLES, _MIN_SHARE * float(foreground.sum()))
        of_intensity = moving.clamp(min=_DARKEST) ** (power - 1)
        if not bool(factors.any()):
            return of_intensity
        strength = (factors @ terms[:, foreground.flatten()]).std() ** 4
        share = strength / (strength + self.anatomy**4)
        logarithm = _polynomial(share * factors, axes)
        return of_intensity * logarithm.clamp(-_MAX_LOG_GAIN, _MAX_LOG_GAIN).exp()

    def _power(self, one: Image, other: Image, terms: Float64[Tensor, "10 voxels"]) -> float:
        """Return the power that gives the moving intensities the contrast of the fixed ones.

        Beside a gain, the logarithm of the ratio grows with the mean of both logarithms, in which
        neither scan comes first. As every scan has a contrast of its own, and matching follows,
        powers near 1 are hardly applied.
        """
        power, gain = 1.0, 1.0
        for _ in range(self.iterations):
            mapped = gain * other.clamp(min=0) ** power
            used = ((one > self.background) & (mapped > self.background)).flatten()
            if int(used.sum()) < _MIN_SAMPLES:
                break
            logs = [image.flatten()[used].log().double() for image in (one, mapped)]
            mean = (logs[0] + logs[1])[None] / 2
            factors = self._fit(torch.cat([terms[:, used], mean]), logs[0] - logs[1])
            slope = float(factors[-1].clamp(-_MAX_SLOPE, _MAX_SLOPE)) / 2
            power *= (1 + slope) / (1 - slope)
            offset = float((factors[:-1] @ terms[:, used]).mean())
            gain = gain ** ((1 + slope) / (1 - slope)) * math.exp(offset / (1 - slope))
        logarithm = max(-_MAX_LOG_GAIN, min(_MAX_LOG_GAIN, math.log(power)))
        weight = logarithm**4
        return math.exp(logarithm * weight / (weight + _OWN_CONTRAST**4))

    def _fit(
        self, terms: Float64[Tensor, "terms n"], values: Float64[Tensor, " n"]
    ) -> Float64[Tensor, " terms"]:
        """Return the factors that fit values, by least squares reweighted by the residuals."""
        weight = torch.ones_like(values)
        ridge = _RIDGE * torch.eye(len(terms), dtype=terms.dtype, device=terms.device)
        factors = terms.new_zeros(len(terms))
        for scale in _SCALES:
            weighted = terms * weight
            matrix = weighted @ terms.T + ridge * weight.sum()
            factors = torch.linalg.solve(matrix, weighted @ values)
            distance = (values - factors @ terms) / (scale * self.outlier)
            weight = (1 + distance.square()) ** -2
        return factors


def _positions(n: int, like: Tensor) -> Float[Tensor, " n"]:
    if n == 1:
        return torch.zeros(1, dtype=like.dtype, device=like.device)
    return torch.linspace(-1, 1, n, dtype=like.dtype, device=like.device)


def _terms(axes: Axes) -> Float[Tensor, "10 voxels"]:
    """Return the terms of a quadratic polynomial at all voxels."""
    i, j, k = (position.flatten() for position in torch.meshgrid(*axes, indexing="ij"))
    return torch.stack([torch.ones_like(i), i, j, k, i * i, j * j, k * k, i * j, i * k, j * k])


def _polynomial(factors: Factors, axes: Axes) -> Image:
    """Return the polynomial at all voxels; without the terms of a whole volume in memory."""
    i, j, k = axes[0][:, None, None], axes[1][:, None], axes[2]
    one, fi, fj, fk, fii, fjj, fkk, fij, fik, fjk = factors.to(axes[0].dtype)
    rows = one + fi * i + fii * i * i + (fj + fij * i) * j + fjj * j * j
    values: Tensor = rows + (fk + fik * i + fjk * j) * k + fkk * k * k
    return values[None, None]
