"""Block matching: a translation, rigid or affine map of a pair, as the initial map of a field.

Every voxel of a coarse grid is matched by discrete search (Ourselin et al. 2001, Modat et al. 2014;
the search is that of ``optimisation.convex``), and a map is fitted to the matches by least trimmed
squares in mm; this is repeated on the moved scan until nothing changes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from l2reg.batch import Batch, resize_batch, select_keys
from l2reg.features.extractor import FeatureExtractor
from l2reg.geometry.affine import (
    Motion,
    affine_field,
    compose_affine,
    identity_affine,
    resize_affine,
)
from l2reg.geometry.resize import resample, resize_image, voxel_ratio
from l2reg.geometry.warp import voxel_coords, warp
from l2reg.optimisation.convex import discrete_search, search_shape
from l2reg.shapes import Affine, Maps, Mask, Shape3

Positions = Float[Tensor, "n 3"]  # mm
AffineMatrix = Float[Tensor, "3 4"]


@dataclass(frozen=True)
class _AlignedFeatures:
    """Features of a pair on the search grid, the moving scan moved.

    Attributes:
        maps: Feature maps of the fixed and of the moving scan.
        masks: Their masks.
    """

    maps: tuple[Maps, Maps]
    masks: tuple[Mask, Mask]

    def residual(self, min_overlap: float) -> float:
        """Return the mean squared difference where both masks are; infinite without overlap."""
        fixed, moving = self.maps
        both = self.masks[0] * self.masks[1]
        smaller = min(float(mask.sum()) for mask in self.masks)
        if float(both.sum()) <= min_overlap * smaller:
            return float("inf")
        difference = (fixed - moving).square_().mean(dim=1, keepdim=True)
        return float((difference * both).sum() / both.sum())


@dataclass(frozen=True, kw_only=True)
class BlockMatching:
    """Finds the map of a pair; there is nothing to train.

    Attributes:
        features: Feature maps that are compared.
        max_size: Largest number of isotropic voxels along the scans' longest side on which features
            are computed.
        stride: Distance of the search voxels, in these voxels.
        radius: Largest offset along each axis, in search voxels.
        smoothing_passes: Number of box means of the costs over three search voxels.
        couplings: See ``convex.coupled_convex``.
        max_iterations: Largest number of searches.
        step_tolerance: The last search moves no voxel by more than this, in search voxels.
        inlier_fraction: Fraction of the matches that a fit uses.
        trim_iterations: Number of fits to the matches with the smallest residuals.
        min_overlap: Smallest overlap of the masks, as a fraction of the smaller one, that a map may
            lead to.
    """

    features: FeatureExtractor
    max_size: int
    stride: int
    radius: int
    smoothing_passes: int
    couplings: Sequence[float]
    max_iterations: int
    step_tolerance: float
    inlier_fraction: float
    trim_iterations: int
    min_overlap: float

    def __post_init__(self) -> None:
        if min(self.max_size, self.stride, self.radius, self.max_iterations) < 1:
            raise ValueError(
                "max_size, stride, radius and max_iterations must be 1 or more, "
                f"got {self.max_size}, {self.stride}, {self.radius}, {self.max_iterations}"
            )
        if not 0 < self.inlier_fraction <= 1:
            raise ValueError(f"inlier_fraction must be in (0, 1], got {self.inlier_fraction}")

    @torch.no_grad()
    def __call__(self, batch: Batch, motion: Motion, start: Affine) -> Affine:
        """Return the map from fixed to moving voxels, or ``start`` if no better map is found.

        The search begins at ``start`` and, in case that leads astray, at the identity.

        Args:
            batch: One pair: its images, masks and ``spacing_mm``.
            motion: Family of maps to search in.
            start: Initial map, in voxels of the pair's grid.
        """
        i, j, k = batch["fixed"].shape[2:]
        isotropic = resize_to_isotropic(batch, self.max_size)
        shape = isotropic["fixed"].shape[2:]
        starts = [resize_affine(start, (i, j, k), shape)]
        if not torch.equal(start, identity_affine(1).to(start)):
            starts.append(identity_affine(1).to(start))
        results = [self._search(isotropic, motion, first) for first in starts]
        _, matrix = min(results, key=lambda result: result[0])
        return resize_affine(matrix, shape, (i, j, k))

    def _search(self, isotropic: Batch, motion: Motion, first: Affine) -> tuple[float, Affine]:
        """Return the best of all maps visited, in isotropic voxels, after its residual."""
        i, j, k = isotropic["fixed"].shape[2:]
        shape = search_shape((i, j, k), self.stride)
        ratio = first.new_tensor(voxel_ratio(shape, (i, j, k)))
        spacing_mm = isotropic["spacing_mm"][0] * ratio
        matrix, visited = first, []
        for _ in range(self.max_iterations):
            aligned = self._align(isotropic, matrix, shape)
            visited.append((aligned.residual(self.min_overlap), matrix))
            fit = self._fit_map(aligned, motion, spacing_mm)
            step = _in_voxels(fit, spacing_mm)[None]
            matrix = compose_affine(matrix, resize_affine(step, shape, (i, j, k)))
            if float(affine_field(step, shape).abs().max()) < self.step_tolerance:
                break
        last = self._align(isotropic, matrix, shape)
        visited.append((last.residual(self.min_overlap), matrix))
        return min(visited, key=lambda one: one[0])

    def _align(self, isotropic: Batch, matrix: Affine, shape: Shape3) -> _AlignedFeatures:
        i, j, k = isotropic["fixed"].shape[2:]
        disp = affine_field(matrix, (i, j, k))
        moving, moving_mask = (
            warp(image, disp, padding="zeros")
            for image in (isotropic["moving"], isotropic["moving_mask"])
        )
        fixed, moving = (
            resize_image(maps, shape) for maps in self.features(isotropic["fixed"], moving)
        )
        masks = (resample(isotropic["fixed_mask"], shape), resample(moving_mask, shape))
        return _AlignedFeatures((fixed, moving), masks)

    def _fit_map(
        self, aligned: _AlignedFeatures, motion: Motion, spacing_mm: Float[Tensor, "3"]
    ) -> AffineMatrix:
        """Return the map in mm that fits the matches inside both masks best."""
        everywhere = torch.ones_like(aligned.masks[1])  # matches outside are left out below
        disp = discrete_search(
            *aligned.maps,
            (aligned.masks[0], everywhere),
            self.radius,
            self.smoothing_passes,
            self.couplings,
        )
        inside = (aligned.masks[0] * warp(aligned.masks[1], disp, padding="zeros"))[0, 0] > 0.5
        if not bool(inside.any()):
            inside = torch.ones_like(inside)
        fixed_points = voxel_coords(disp)[0].movedim(0, -1)[inside] * spacing_mm
        moving_points = fixed_points + disp[0].movedim(0, -1)[inside] * spacing_mm
        return trimmed_fit(
            fixed_points, moving_points, motion, self.inlier_fraction, self.trim_iterations
        )


def trimmed_fit(
    fixed_points: Positions,
    moving_points: Positions,
    motion: Motion,
    inlier_fraction: float,
    trim_iterations: int,
) -> AffineMatrix:
    """Fit a translation, rigid or affine map to point pairs by least trimmed squares.

    Alternates between a least-squares fit and the choice of the pairs with the smallest residuals
    (Rousseeuw 1984).

    Args:
        fixed_points: Positions in mm.
        moving_points: Their partners in mm, row by row.
        motion: Family of maps to fit.
        inlier_fraction: Fraction of the pairs that each fit uses, in (0, 1].
        trim_iterations: Number of fits after the first one.
    """
    fit = {"translation": _fit_translation, "rigid": _fit_rigid, "affine": _fit_affine}[motion]
    n_inliers = max(4, round(inlier_fraction * len(fixed_points)))
    matrix = fit(fixed_points, moving_points)
    for _ in range(trim_iterations):
        moved = fixed_points @ matrix[:, :3].T + matrix[:, 3]
        distance = (moved - moving_points).square().sum(dim=1)
        inliers = distance.topk(min(n_inliers, len(fixed_points)), largest=False).indices
        matrix = fit(fixed_points[inliers], moving_points[inliers])
    return matrix


def resize_to_isotropic(batch: Batch, max_size: int) -> Batch:
    """Return images and masks on isotropic voxels, no finer than along the longest side.

    Args:
        batch: One pair: its images, masks and ``spacing_mm``.
        max_size: Largest number of voxels along the longest side.
    """
    shape = batch["fixed"].shape[2:]
    spacing_mm = batch["spacing_mm"][0]
    extent_mm = (spacing_mm.new_tensor(shape) - 1) * spacing_mm
    side_mm = float(extent_mm.max()) / (min(max_size, max(shape)) - 1)
    i, j, k = (max(2, round(float(length) / side_mm) + 1) for length in extent_mm)
    names = ("fixed", "moving", "fixed_mask", "moving_mask", "spacing_mm")
    return resize_batch(select_keys(batch, names), (i, j, k), masks="linear")


def _fit_translation(fixed_points: Positions, moving_points: Positions) -> AffineMatrix:
    shift = (moving_points - fixed_points).mean(dim=0)
    return torch.cat([torch.eye(3).to(fixed_points), shift[:, None]], dim=1)


def _fit_rigid(fixed_points: Positions, moving_points: Positions) -> AffineMatrix:
    """Return rotation and translation by least squares (Kabsch 1976)."""
    centre, goal = fixed_points.mean(dim=0), moving_points.mean(dim=0)
    u, _, v = torch.linalg.svd((moving_points - goal).T @ (fixed_points - centre))
    signs = torch.ones(3).to(fixed_points)
    signs[2] = torch.linalg.det(u @ v)  # -1 for a reflection
    rotation = u * signs @ v
    return torch.cat([rotation, (goal - rotation @ centre)[:, None]], dim=1)


def _fit_affine(fixed_points: Positions, moving_points: Positions) -> AffineMatrix:
    ones = torch.ones_like(fixed_points[:, :1])
    homogeneous = torch.cat([fixed_points, ones], dim=1)
    matrix: Tensor = torch.linalg.lstsq(homogeneous, moving_points).solution.T
    return matrix


def _in_voxels(matrix: AffineMatrix, spacing_mm: Float[Tensor, "3"]) -> AffineMatrix:
    scale = torch.cat([spacing_mm.expand(3, 3), torch.ones_like(spacing_mm)[:, None]], dim=1)
    return matrix * scale / spacing_mm[:, None]
