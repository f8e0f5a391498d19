"""Gain of one scan relative to another that varies slowly, as the bias fields of MR do."""

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
_RIDGE = 1e-6  # of the sum of the weights
_MAX_LOG_GAIN = 1.1  # threefold

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

    Attributes:
        intensities: Extractor of the intensities after the gain, one channel of each scan.
        background: Intensity up to which a voxel is background.
        outlier: Distance from the fit, of logarithms, at which a ratio has a quarter of its weight.
        anatomy: Standard deviation of the logarithm of the gain over the foreground at which half
            of it is applied: much weaker ones are left, much stronger ones applied whole.
        iterations: Number of fits, each to what the gain so far has left.
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
        """Return the gain of the moving scan of one pair; 1 where nothing can be told."""
        axes = [_positions(n, fixed) for n in fixed.shape[2:]]
        every = [slice(None, None, -(-n // _MAX_SAMPLES)) for n in fixed.shape[2:]]
        sampled = [axis[step] for axis, step in zip(axes, every, strict=True)]
        one, other = fixed[:, :, *every], moving[:, :, *every]
        terms = _terms(sampled).double()
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
        if not bool(factors.any()):
            return torch.ones_like(fixed)
        strength = (factors @ terms[:, foreground.flatten()]).std() ** 4
        share = strength / (strength + self.anatomy**4)
        logarithm = _polynomial(share * factors, axes)
        return logarithm.clamp(-_MAX_LOG_GAIN, _MAX_LOG_GAIN).exp()

    def _fit(self, terms: Float64[Tensor, "10 n"], values: Float64[Tensor, " n"]) -> Factors:
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
