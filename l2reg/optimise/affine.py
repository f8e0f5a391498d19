"""A translation, rigid or affine map of a pair, found by search: where a field can start.

Block matching (Ourselin et al. 2001, Modat et al. 2014): every voxel of a coarse grid looks for its
partner, and the map that most of them agree on is fitted by trimmed least squares in mm; then
again on the moved scan, until nothing changes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from l2reg.data.prealign import Motion
from l2reg.geometry.affine import affine_field, compose_affine, resize_affine
from l2reg.geometry.resize import resample, resize_image, voxel_ratio
from l2reg.geometry.warp import voxel_grid, warp
from l2reg.optimise.convex import coupled_convex, matching_costs
from l2reg.optimise.features import Features
from l2reg.shapes import Affine, Batch, Image, Mask, Scalar, Shape3

_TRIMMED_FITS = 10
_SETTLED = 0.02  # coarse voxels that a further round moves at most

Positions = Float[Tensor, "n 3"]  # mm
Map = Float[Tensor, "3 4"]


@dataclass(frozen=True)
class _Level:
    """A pair on a coarse grid of cubes."""

    fixed: Image
    moving: Image
    mask: Mask
    spacing_mm: Float[Tensor, "3"]
    shape: Shape3


@dataclass(frozen=True, kw_only=True)
class BlockMatching:
    """Finds the map of a pair; it has nothing to learn.

    Attributes:
        features: What is compared.
        levels: Rows ``(longest, radius, rounds)``, coarsest first: voxels of the level's grid along
            the scans' longest side (they are cubes), offsets that are tried each way, and rounds
            at most.
        structured: Share of the fixed mask that looks for a partner: where there is most structure.
        agreeing: Share of the matches that the fit trusts.
    """

    features: Features
    levels: Sequence[Sequence[int]]
    structured: float
    agreeing: float

    def __post_init__(self) -> None:
        for level in self.levels:
            if len(level) != 3 or min(level) < 1 or level[0] < 8:
                raise ValueError(
                    f"levels must be rows of longest (8 or more), radius, rounds; got {level}"
                )
        if not (0 < self.structured <= 1 and 0 < self.agreeing <= 1):
            raise ValueError(
                f"structured and agreeing must be in (0, 1], got {self.structured}, {self.agreeing}"
            )

    @torch.no_grad()
    def __call__(self, batch: Batch, motion: Motion, start: Affine) -> Affine:
        """Return the map from fixed to moving voxels, or ``start`` where none fits better.

        Args:
            batch: One pair: its images, ``fixed_mask`` and ``spacing_mm``.
            motion: What the map may do.
            start: Where to start, in voxels of the pair's grid.
        """
        i, j, k = batch["fixed"].shape[2:]
        matrix = start
        for longest, radius, rounds in self.levels:
            level = _level(batch, longest)
            first = resize_affine(matrix, (i, j, k), level.shape)
            found = self._searched(level, radius, rounds, motion, first)
            matrix = resize_affine(found, level.shape, (i, j, k))
        return matrix

    def _searched(
        self, level: _Level, radius: int, rounds: int, motion: Motion, first: Affine
    ) -> Affine:
        matrix = first
        chosen = _most_structured(level.fixed, level.mask, self.structured)
        here = voxel_grid(level.fixed)[0].movedim(0, -1)[chosen] * level.spacing_mm
        for _ in range(rounds):
            maps = self.features(level.fixed, _moved(level.moving, matrix))
            disp = coupled_convex(matching_costs(*maps, level.mask, radius), radius)
            there = here + disp[0].movedim(0, -1)[chosen] * level.spacing_mm
            fit = trimmed_fit(here, there, motion, self.agreeing)
            step = _in_voxels(fit, level.spacing_mm)[None]
            matrix = compose_affine(matrix, step)
            if float(affine_field(step, level.shape).abs().max()) < _SETTLED:
                break
        return matrix if self._misfit(level, matrix) < self._misfit(level, first) else first

    def _misfit(self, level: _Level, matrix: Affine) -> Scalar:
        here, there = self.features(level.fixed, _moved(level.moving, matrix))
        return ((here - there).square() * level.mask).mean()


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


def _level(batch: Batch, longest: int) -> _Level:
    fine = batch["fixed"].shape[2:]
    spacing_mm = batch["spacing_mm"][0]
    extent = (spacing_mm.new_tensor(fine) - 1) * spacing_mm
    step = float(extent.max()) / (longest - 1)
    i, j, k = (max(2, round(float(length) / step) + 1) for length in extent)
    shape = (i, j, k)
    return _Level(
        fixed=resize_image(batch["fixed"], shape),
        moving=resize_image(batch["moving"], shape),
        mask=resample(batch["fixed_mask"], shape),
        spacing_mm=spacing_mm * spacing_mm.new_tensor(voxel_ratio(shape, fine)),
        shape=shape,
    )


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


def _most_structured(fixed: Image, mask: Mask, share: float) -> Tensor:
    """Return a boolean volume: the voxels inside the mask where the image changes most."""
    slopes = [torch.gradient(fixed[0, 0], dim=axis)[0] for axis in range(3)]
    change = torch.stack(slopes).square().sum(dim=0)
    inside = mask[0, 0] > 0.5
    if not bool(inside.any()):
        inside = torch.ones_like(inside)
    least = torch.quantile(change[inside], 1 - share)
    return inside & (change >= least)


def _moved(moving: Image, matrix: Affine) -> Image:
    i, j, k = moving.shape[2:]
    return warp(moving, affine_field(matrix, (i, j, k)), padding="zeros")
