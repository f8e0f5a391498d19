"""Exhaustive search for rigid maps: some turns, and for each of them all translations.

For every turn of the moving scan, the normalised correlation of the feature maps of both scans is
computed for all translations at once by fast Fourier transforms, over the voxels where both scans
have data (Padfield 2012, "Masked object registration in the Fourier domain", here of several
channels). The scans may lie anywhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from jaxtyping import Complex, Float
from scipy.fft import next_fast_len
from scipy.spatial.transform import Rotation
from torch import Tensor

from l2reg.features.extractor import FeatureExtractor
from l2reg.geometry.affine import affine_field
from l2reg.geometry.filters import erode
from l2reg.geometry.warp import warp
from l2reg.shapes import Affine, Image, ImagePair, Mask, MaskPair, Shape3

Linear = Float[Tensor, "3 3"]

_WHOLE = 0.99  # interpolated mask above which a voxel counts as inside
_BLANK = 1e-3  # fraction of a scan's variance; features that vary less are those of a blank region


@dataclass(frozen=True)
class RigidMatch:
    """A map that the search found.

    Attributes:
        matrix: Map from fixed to moving voxels.
        correlation: Normalised correlation of the feature maps where both scans have data, in
            [-1, 1].
    """

    matrix: Affine
    correlation: float


@dataclass(frozen=True, kw_only=True)
class RigidSearch:
    """Finds rigid maps between two scans, whatever their position; there is nothing to train.

    Attributes:
        features: Feature maps that are compared.
        max_size: Number of isotropic voxels along the longest side of the larger scan.
        angles_deg: Turns about each of the fixed axes, in degrees; all combinations are tried.
        min_overlap: Smallest overlap, as a fraction of the smaller scan.
    """

    features: FeatureExtractor
    max_size: int
    angles_deg: Sequence[float]
    min_overlap: float

    def __post_init__(self) -> None:
        if self.max_size < 2 or not 0 < self.min_overlap <= 1:
            raise ValueError(
                "max_size must be 2 or more and min_overlap in (0, 1], "
                f"got {self.max_size}, {self.min_overlap}"
            )

    @torch.no_grad()
    def __call__(
        self,
        images: ImagePair,
        masks: MaskPair,
        matrix: Affine,
        spacing_mm: Sequence[float],
    ) -> list[RigidMatch]:
        """Return the best translation of every turn, best match first.

        Args:
            images: The fixed and the moving scan, intensities in [0, 1], each on a grid of its own
                and not much finer than the grid of the search, as they are not smoothed.
            masks: 1 where the scans have data.
            matrix: Map from fixed to moving voxels. The turns are relative to it; its translation
                has no influence.
            spacing_mm: Spacing of the fixed scan.
        """
        spacing = matrix.new_tensor(spacing_mm)
        per_mm = matrix[0, :, :3] / spacing  # moving voxels per mm along the fixed axes
        fixed, moving = (
            _Scan(image, mask, linear)
            for image, mask, linear in zip(
                images, masks, (torch.diag(1 / spacing), per_mm), strict=True
            )
        )
        step_mm = max(fixed.longest_mm, moving.longest_mm) / (self.max_size - 1)
        upright = torch.eye(3).to(matrix)
        turns = [
            matrix.new_tensor(Rotation.from_euler("xyz", angles, degrees=True).as_matrix())
            for angles in product(self.angles_deg, repeat=3)
        ]
        fixed_box = fixed.box(upright, step_mm)
        boxes = [moving.box(turn, step_mm) for turn in turns]
        sizes = [
            next_fast_len(length + max(box[axis] for box in boxes) - 1, real=True)
            for axis, length in enumerate(fixed_box)
        ]
        fixed_sums = self._spectra(fixed, upright, step_mm, fixed_box, sizes)
        matches = []
        for turn, box in zip(turns, boxes, strict=True):
            moving_sums = self._spectra(moving, turn, step_mm, box, sizes)
            score = _correlations(fixed_sums, moving_sums, sizes, self.min_overlap)
            shift = np.array(np.unravel_index(int(score.argmax()), tuple(sizes)))
            shift = np.where(shift < fixed_box, shift, shift - sizes)
            # fixed position q is moving position q - shift, both in steps from a box's first corner
            offset = matrix.new_tensor((np.array(fixed_box) - box) / 2 - shift) * step_mm
            linear = per_mm @ turn
            translation = moving.centre + linear @ (offset - spacing * fixed.centre)
            total = torch.cat([linear * spacing, translation[:, None]], dim=1)[None]
            matches.append(RigidMatch(total, float(score.max())))
        return sorted(matches, key=lambda match: -match.correlation)

    def _spectra(
        self, scan: "_Scan", turn: Linear, step_mm: float, box: Shape3, sizes: Sequence[int]
    ) -> "_Spectra":
        image, mask = scan.sample(turn, step_mm, box)
        maps, _ = self.features(image, image)
        return _Spectra.of(maps, erode(mask, 1), sizes)


class _Scan:
    """A scan that can be sampled on turned, isotropic grids about its centre.

    Args:
        image: Intensities.
        mask: 1 where the scan has data.
        per_mm: Voxels of the scan per mm along the axes of the grids.
    """

    def __init__(self, image: Image, mask: Mask, per_mm: Linear) -> None:
        self.image, self.mask, self.per_mm = image, mask, per_mm
        self.last = per_mm.new_tensor(image.shape[2:]) - 1
        self.centre = self.last / 2
        self.longest_mm = float((torch.linalg.inv(per_mm).norm(dim=0) * self.last).max())

    def box(self, turn: Linear, step_mm: float) -> Shape3:
        """Return the shape of the grid that covers the turned scan."""
        signs = torch.cartesian_prod(*[self.last.new_tensor([-0.5, 0.5])] * 3)
        corners = torch.linalg.inv(self.per_mm @ turn) @ (signs * self.last).T
        i, j, k = (2 * int(torch.ceil(mm / step_mm - 1e-3)) + 1 for mm in corners.amax(dim=1))
        return (i, j, k)

    def sample(self, turn: Linear, step_mm: float, box: Shape3) -> tuple[Image, Mask]:
        """Return the scan and its mask on a turned grid."""
        linear = self.per_mm @ turn * step_mm
        translation = self.centre - linear @ (self.last.new_tensor(box) - 1) / 2
        disp = affine_field(torch.cat([linear, translation[:, None]], dim=1)[None], box)
        mask = warp(self.mask, disp, padding="zeros") > _WHOLE
        return warp(self.image, disp), mask.to(self.image.dtype)


@dataclass(frozen=True)
class _Spectra:
    """Fourier transforms of what the correlations with another scan need.

    Attributes:
        maps: Feature maps inside the mask.
        total: Their sum over the channels.
        squares: The sum of their squares.
        mask: The mask.
        n_voxels: Number of voxels of the mask.
        variance: Variance of the feature maps.
    """

    maps: Complex[Tensor, "c i j k"]
    total: Complex[Tensor, "i j k"]
    squares: Complex[Tensor, "i j k"]
    mask: Complex[Tensor, "i j k"]
    n_voxels: float
    variance: float

    @classmethod
    def of(cls, maps: Image, mask: Mask, sizes: Sequence[int]) -> "_Spectra":
        n_voxels = float(mask.sum())
        mean = (maps * mask).sum() / max(maps.shape[1] * n_voxels, 1)
        maps = ((maps - mean) * mask)[0]
        squares = maps.square().sum(dim=0)

        def transform(part: Tensor) -> Tensor:
            spectrum: Tensor = torch.fft.rfftn(part, tuple(sizes), dim=(-3, -2, -1))
            return spectrum

        return cls(
            maps=transform(maps),
            total=transform(maps.sum(dim=0)),
            squares=transform(squares),
            mask=transform(mask[0, 0]),
            n_voxels=n_voxels,
            variance=float(squares.sum()) / max(len(maps) * n_voxels, 1),
        )


def _correlations(
    fixed: _Spectra, moving: _Spectra, sizes: Sequence[int], min_overlap: float
) -> Float[Tensor, "i j k"]:
    """Return the normalised correlation for every cyclic shift of the moving scan."""

    def sums(first: Tensor, second: Tensor) -> Tensor:
        product = first * second.conj()
        summed = product.sum(dim=0) if product.dim() == 4 else product
        correlation: Tensor = torch.fft.irfftn(summed, tuple(sizes))
        return correlation

    channels = len(fixed.maps)
    overlap = sums(fixed.mask, moving.mask)
    n = overlap.clamp_min(1) * channels
    fixed_mean = sums(fixed.total, moving.mask) / n
    moving_mean = sums(fixed.mask, moving.total) / n
    products = sums(fixed.maps, moving.maps)
    fixed_variance = sums(fixed.squares, moving.mask) / n - fixed_mean.square()
    moving_variance = sums(fixed.mask, moving.squares) / n - moving_mean.square()
    variances = fixed_variance.clamp_min(max(_BLANK * fixed.variance, 1e-12)) * (
        moving_variance.clamp_min(max(_BLANK * moving.variance, 1e-12))
    )
    score = (products / n - fixed_mean * moving_mean) / variances.sqrt()
    enough = overlap >= min_overlap * min(fixed.n_voxels, moving.n_voxels)
    return torch.where(enough, score, -1.0)
