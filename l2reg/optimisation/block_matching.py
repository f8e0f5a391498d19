"""A translation, rigid or affine map of a pair, found by search: where a field can start.

Block matching (Ourselin et al. 2001, Modat et al. 2014): every voxel of a coarse grid looks for its
partner, as in ``optimise.convex``, and the map that most of them agree on is fitted by trimmed
least squares in mm; then again on the moved scan, until nothing changes.
"""

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

_TRIMMED_FITS = 10
_SETTLED = 0.1  # search voxels that a further round moves at most
_LEAST_OVERLAP = 0.3  # of the smaller mask; less shows nothing

Positions = Float[Tensor, "n 3"]  # mm
Map = Float[Tensor, "3 4"]


@dataclass(frozen=True)
class _View:
    """Features of a pair on the search grid, the moving scan moved.

    Attributes:
        maps: Of the fixed and the moving scan.
        masks: Likewise.
    """

    maps: tuple[Maps, Maps]
    masks: tuple[Mask, Mask]

    @property
    def misfit(self) -> float:
        """The mean squared difference where both masks are; infinite without enough overlap."""
        fixed, moving = self.maps
        both = self.masks[0] * self.masks[1]
        smaller = min(float(mask.sum()) for mask in self.masks)
        if float(both.sum()) <= _LEAST_OVERLAP * smaller:
            return float("inf")
        difference = (fixed - moving).square_().mean(dim=1, keepdim=True)
        return float((difference * both).sum() / both.sum())


@dataclass(frozen=True, kw_only=True)
class BlockMatching:
    """Finds the map of a pair; it has nothing to learn.

    Attributes:
        features: What is compared.
        longest: Voxels along the scans' longest side at which features are made; they are cubes.
        stride: Of these between search voxels.
        radius: Offsets that are tried each way, in search voxels.
        smoothing: Box means of the costs over three search voxels.
        rounds: At most.
        agreeing: Share of the matches that the fit trusts.
    """

    features: FeatureExtractor
    longest: int
    stride: int
    radius: int
    smoothing: int
    rounds: int
    agreeing: float

    def __post_init__(self) -> None:
        if min(self.longest, self.stride, self.radius, self.rounds) < 1:
            raise ValueError(
                "longest, stride, radius and rounds must be 1 or more, "
                f"got {self.longest}, {self.stride}, {self.radius}, {self.rounds}"
            )
        if not 0 < self.agreeing <= 1:
            raise ValueError(f"agreeing must be in (0, 1], got {self.agreeing}")

    @torch.no_grad()
    def __call__(self, batch: Batch, motion: Motion, start: Affine) -> Affine:
        """Return the map from fixed to moving voxels, or ``start`` where none fits better.

        The search begins at ``start`` and, in case that leads astray, where the scans are.

        Args:
            batch: One pair: its images, masks and ``spacing_mm``.
            motion: What the map may do.
            start: Where to start, in voxels of the pair's grid.
        """
        i, j, k = batch["fixed"].shape[2:]
        cubes = resize_to_isotropic(batch, self.longest)
        shape = cubes["fixed"].shape[2:]
        starts = [resize_affine(start, (i, j, k), shape)]
        if not torch.equal(start, identity_affine(1).to(start)):
            starts.append(identity_affine(1).to(start))
        found = [self._searched(cubes, motion, first) for first in starts]
        _, matrix = min(found, key=lambda one: one[0])
        return resize_affine(matrix, shape, (i, j, k))

    def _searched(self, cubes: Batch, motion: Motion, first: Affine) -> tuple[float, Affine]:
        """Return the best map on the way, in cubes, and its misfit before it."""
        i, j, k = cubes["fixed"].shape[2:]
        shape = search_shape((i, j, k), self.stride)
        spacing_mm = cubes["spacing_mm"][0] * first.new_tensor(voxel_ratio(shape, (i, j, k)))
        matrix, tried = first, []
        for _ in range(self.rounds):
            view = self._view(cubes, matrix, shape)
            tried.append((view.misfit, matrix))
            fit = self._matched(view, motion, spacing_mm)
            step = _in_voxels(fit, spacing_mm)[None]
            matrix = compose_affine(matrix, resize_affine(step, shape, (i, j, k)))
            if float(affine_field(step, shape).abs().max()) < _SETTLED:
                break
        tried.append((self._view(cubes, matrix, shape).misfit, matrix))
        return min(tried, key=lambda one: one[0])

    def _view(self, cubes: Batch, matrix: Affine, shape: Shape3) -> _View:
        i, j, k = cubes["fixed"].shape[2:]
        disp = affine_field(matrix, (i, j, k))
        moving, moving_mask = (
            warp(cubes[name], disp, padding="zeros") for name in ("moving", "moving_mask")
        )
        fixed, moving = (
            resize_image(maps, shape) for maps in self.features(cubes["fixed"], moving)
        )
        masks = (resample(cubes["fixed_mask"], shape), resample(moving_mask, shape))
        return _View((fixed, moving), masks)

    def _matched(self, view: _View, motion: Motion, spacing_mm: Float[Tensor, "3"]) -> Map:
        """Return the map in mm that most partners agree on, those outside either mask left out."""
        disp = discrete_search(*view.maps, view.masks[0], self.radius, self.smoothing)
        counts = (view.masks[0] * warp(view.masks[1], disp, padding="zeros"))[0, 0] > 0.5
        if not bool(counts.any()):
            counts = torch.ones_like(counts)
        here = voxel_coords(disp)[0].movedim(0, -1)[counts] * spacing_mm
        there = here + disp[0].movedim(0, -1)[counts] * spacing_mm
        return trimmed_fit(here, there, motion, self.agreeing)


def trimmed_fit(here: Positions, there: Positions, motion: Motion, agreeing: float) -> Map:
    """Return the map of a kind that takes ``here`` to ``there``, as most of the points want it.

    Fits again and again to the points that the last fit left nearest (least trimmed squares).

    Args:
        here: Positions in mm.
        there: Their partners.
        motion: What the map may do.
        agreeing: Share of the points that is trusted.
    """
    fit = {"translation": _translation, "rigid": _rigid, "affine": _affine}[motion]
    n_trusted = max(4, round(agreeing * len(here)))
    matrix = fit(here, there)
    for _ in range(_TRIMMED_FITS):
        distance = (here @ matrix[:, :3].T + matrix[:, 3] - there).square().sum(dim=1)
        trusted = distance.topk(min(n_trusted, len(here)), largest=False).indices
        matrix = fit(here[trusted], there[trusted])
    return matrix


def resize_to_isotropic(batch: Batch, longest: int) -> Batch:
    """Return images and masks on a grid of cubes, no finer than they are along the longest side."""
    fine = batch["fixed"].shape[2:]
    spacing_mm = batch["spacing_mm"][0]
    extent_mm = (spacing_mm.new_tensor(fine) - 1) * spacing_mm
    side_mm = float(extent_mm.max()) / (min(longest, max(fine)) - 1)
    i, j, k = (max(2, round(float(length) / side_mm) + 1) for length in extent_mm)
    names = ("fixed", "moving", "fixed_mask", "moving_mask", "spacing_mm")
    return resize_batch(select_keys(batch, names), (i, j, k), masks="linear")


def _translation(here: Positions, there: Positions) -> Map:
    return torch.cat([torch.eye(3).to(here), (there - here).mean(dim=0)[:, None]], dim=1)


def _rigid(here: Positions, there: Positions) -> Map:
    """Return the rotation and translation of least squares (Kabsch 1976)."""
    centre, goal = here.mean(dim=0), there.mean(dim=0)
    u, _, v = torch.linalg.svd((there - goal).T @ (here - centre))
    turn = torch.ones(3).to(here)
    turn[2] = torch.linalg.det(u @ v)  # -1 for a reflection
    rotation = u * turn @ v
    return torch.cat([rotation, (goal - rotation @ centre)[:, None]], dim=1)


def _affine(here: Positions, there: Positions) -> Map:
    ones = torch.ones_like(here[:, :1])
    matrix: Tensor = torch.linalg.lstsq(torch.cat([here, ones], dim=1), there).solution.T
    return matrix


def _in_voxels(matrix: Map, spacing_mm: Float[Tensor, "3"]) -> Map:
    scale = torch.cat([spacing_mm.expand(3, 3), torch.ones_like(spacing_mm)[:, None]], dim=1)
    return matrix * scale / spacing_mm[:, None]
