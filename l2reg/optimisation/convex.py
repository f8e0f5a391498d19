"""Discrete search for a smooth deformation, without training (Siebert et al. 2021, ConvexAdam).

The cost of every offset in a cube is computed for every voxel of a coarse grid; a coupled convex
optimisation (Heinrich, Papiez, Schnabel and Handels 2014) selects one offset for each voxel such
that neighbouring voxels agree. It needs no initial field, and large motion is no harder to find
than small motion. Finer grids then search around what the coarser ones found, with fewer offsets.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from l2reg.batch import Batch
from l2reg.features.extractor import FeatureExtractor, comparable_features
from l2reg.geometry.compose import compose
from l2reg.geometry.filters import box_mean, smooth
from l2reg.geometry.resize import resample, resize_field, resize_image
from l2reg.geometry.warp import warp
from l2reg.models.prediction import Prediction
from l2reg.shapes import Field, Image, Mask, Shape3, WorkingGrid, as_working_grid

Costs = Float[Tensor, "b offsets i j k"]
Indices = Int[Tensor, "b 1 i j k"]
Offsets = Float[Tensor, "offsets 3"]


class Convex(nn.Module):
    """Registers a pair by discrete search; there is nothing to train.

    Args:
        grid: Working grid.
        features: Feature maps that are compared.
        levels: Rows ``(stride, radius)``, coarsest first: distance of the search voxels in working
            voxels, and largest offset along each axis in search voxels. A level searches around the
            field of the one before.
        smoothing_passes: Number of box means of the costs over three search voxels.
        couplings: Weights of the squared distance between offsets and smooth field, increasing.
        inverse_consistent: Whether both directions are searched and made inverse consistent.
        consistency_iterations: Number of updates that make them so.
    """

    def __init__(
        self,
        grid: WorkingGrid,
        features: FeatureExtractor,
        levels: Sequence[Sequence[int]],
        smoothing_passes: int,
        couplings: Sequence[float],
        inverse_consistent: bool,
        consistency_iterations: int,
    ) -> None:
        super().__init__()
        if not levels or any(len(level) != 2 or min(level) < 1 for level in levels):
            raise ValueError(
                f"levels must be rows of stride and radius, 1 or more; got {list(levels)}"
            )
        self.grid = as_working_grid(grid)
        self.features = features
        self.levels = [(stride, radius) for stride, radius in levels]
        self.smoothing_passes = smoothing_passes
        self.couplings = list(couplings)
        self.inverse_consistent = inverse_consistent
        self.consistency_iterations = consistency_iterations

    @property
    def capture_range(self) -> int:
        """Largest displacement along an axis that one level finds, in working voxels."""
        return max(stride * radius for stride, radius in self.levels)

    @torch.no_grad()
    def forward(self, batch: Batch) -> Prediction:
        """Return the field of each pair on the working grid."""
        i, j, k = batch["fixed"].shape[2:]
        with torch.autocast(batch["fixed"].device.type, enabled=False):
            maps, masks = comparable_features(batch, self.features)
            disp = backward = torch.zeros_like(maps[0][:, :1]).expand(-1, 3, -1, -1, -1)
            for stride, radius in self.levels:
                shape = search_shape((i, j, k), stride)
                fixed, moving = (
                    (resize_image(image, shape), resample(mask, shape))
                    for image, mask in zip(maps, masks, strict=True)
                )
                disp = self._search(fixed, moving, resize_field(disp, shape), radius)
                if self.inverse_consistent:
                    backward = self._search(moving, fixed, resize_field(backward, shape), radius)
                    disp, backward = make_inverse_consistent(
                        disp, backward, self.consistency_iterations
                    )
            return Prediction(resize_field(disp, (i, j, k)))

    def _search(
        self, fixed: tuple[Image, Mask], moving: tuple[Image, Mask], disp: Field, radius: int
    ) -> Field:
        """Return the field after a search for what is left to move, by features and masks."""
        image, mask = warp(moving[0], disp), warp(moving[1], disp, padding="zeros")
        masks = (fixed[1], mask)
        step = discrete_search(
            fixed[0], image, masks, radius, self.smoothing_passes, self.couplings
        )
        return compose(disp, step)


def discrete_search(
    fixed: Image,
    moving: Image,
    masks: tuple[Mask, Mask],
    radius: int,
    smoothing_passes: int,
    couplings: Sequence[float],
) -> Field:
    """Return the smooth field under which the moving maps match the fixed maps best, in voxels.

    Args:
        fixed: Feature maps of the fixed scan.
        moving: Feature maps of the moving scan, on the same grid.
        masks: Masks of both scans.
        radius: Largest offset along each axis, in voxels.
        smoothing_passes: Number of box means of the costs over three voxels.
        couplings: See ``coupled_convex``.
    """
    costs = ssd_cost_volume(fixed, moving, masks, radius)
    for _ in range(smoothing_passes):
        costs = box_mean(costs, 3)
    return coupled_convex(costs, radius, couplings)


def ssd_cost_volume(fixed: Image, moving: Image, masks: tuple[Mask, Mask], radius: int) -> Costs:
    """Return the sum of squared differences of every voxel and the moving voxels around it.

    The sum runs over channels, in units of its mean over the voxels with data. An offset that leads
    outside the moving volume or its mask says nothing: it costs the mean of the voxel's other
    offsets. Voxels outside the fixed mask, or without any offset inside the moving mask, cost
    nothing at any offset.

    Args:
        fixed: Feature maps of the fixed scan.
        moving: Feature maps of the moving scan, on the same grid.
        masks: Masks of both scans.
        radius: Largest offset along each axis, in voxels.

    Returns:
        One channel for each of ``offsets(radius)``, in their order.
    """
    padded = F.pad(moving, [radius] * 6)
    inside = F.pad((masks[1] > 0.5).to(fixed.dtype), [radius] * 6)[:, 0]
    i, j, k = fixed.shape[2:]
    windows = [
        (slice(di, di + i), slice(dj, dj + j), slice(dk, dk + k))
        for di, dj, dk in (offsets(radius).int() + radius).tolist()
    ]
    costs = fixed.new_empty((len(fixed), len(windows), i, j, k))
    total, n_known = fixed.new_zeros(2, len(fixed), i, j, k)
    for n, window in enumerate(windows):
        torch.sum((padded[:, :, *window] - fixed).square_(), dim=1, out=costs[:, n])
        costs[:, n] *= inside[:, *window]
        total += costs[:, n]
        n_known += inside[:, *window]
    mean = total / n_known.clamp(min=1)
    for n, window in enumerate(windows):
        costs[:, n] += (1 - inside[:, *window]) * mean
    costs *= masks[0]
    with_data = ((masks[0] > 0) & (n_known[:, None] > 0)).to(fixed.dtype).mean()
    costs /= (costs.mean() / with_data.clamp(min=1e-12)).clamp(min=1e-12)
    return costs


def offsets(radius: int) -> Offsets:
    """Return all offsets of a cube of ``2 * radius + 1`` voxels, the last axis fastest."""
    steps = torch.arange(-radius, radius + 1, dtype=torch.float32)
    return torch.cartesian_prod(steps, steps, steps)


def coupled_convex(costs: Costs, radius: int, couplings: Sequence[float]) -> Field:
    """Return the smooth field that follows the costs best, in voxels.

    Alternates between the best offset of each voxel, given that it should be near a smooth field,
    and smoothing, with increasing coupling. It starts at zero, so that voxels that match equally
    well everywhere do not move by themselves. Offsets are refined to fractions of a voxel by a
    parabola along each axis.

    Args:
        costs: Cost of each of ``offsets(radius)`` for every voxel.
        radius: Largest offset along each axis, in voxels.
        couplings: Weights of the squared distance between offset and smooth field.
    """
    candidates = offsets(radius).to(costs.device)
    field = costs.new_zeros(len(costs), 3, *costs.shape[2:])
    for coupling in couplings:
        coupled = _coupled_costs(costs, field, candidates, coupling)
        best = _best_offset(coupled)
        field = _select_offsets(candidates, best) + _subvoxel_offset(coupled, best, radius)
        field = smooth(field, passes=1)
    return field


def _coupled_costs(costs: Costs, field: Field, candidates: Offsets, coupling: float) -> Costs:
    """Return the costs plus the weighted squared distance of every offset from the field.

    Terms that are equal for all offsets of a voxel are left out.
    """
    squares = candidates.square().sum(dim=1, keepdim=True)
    rows = coupling * torch.cat([-2 * candidates, squares], dim=1)
    columns = torch.cat([field, torch.ones_like(field[:, :1])], dim=1).flatten(2)
    coupled = torch.baddbmm(costs.flatten(2), rows.expand(len(costs), -1, -1), columns)
    return coupled.view_as(costs)


def _best_offset(costs: Costs) -> Indices:
    """Return the first offset of the lowest cost for every voxel.

    It is ``argmin``, which takes three times as long along an axis that is not the last one.
    """
    _, n_offsets, n_voxels = costs.flatten(2).shape
    lowest = costs.amin(dim=1, keepdim=True)
    pair, offset, voxel = (costs == lowest).flatten(2).nonzero().unbind(dim=1)
    best = torch.full_like(lowest, n_offsets - 1, dtype=torch.long)
    best.view(-1).scatter_reduce_(0, pair * n_voxels + voxel, offset, "amin")
    return best


def _select_offsets(candidates: Offsets, best: Indices) -> Field:
    return candidates[best[:, 0]].movedim(-1, 1)


def _subvoxel_offset(costs: Costs, best: Indices, radius: int) -> Field:
    """Return the minimum of the parabola through the best offset and its neighbours, per axis.

    Between -0.5 and 0.5 voxels; 0 along an axis where the best offset is the largest one.
    """
    size = 2 * radius + 1
    lowest = costs.gather(1, best)[:, 0]
    parts = []
    for stride in (size * size, size, 1):
        position = best // stride % size
        inside = (position > 0) & (position < size - 1)
        step = stride * inside
        below, above = (costs.gather(1, best + sign * step)[:, 0] for sign in (-1, 1))
        curvature = below - 2 * lowest + above
        shift = (below - above) / (2 * curvature.clamp(min=1e-6))
        parts.append(shift.clamp(-0.5, 0.5) * inside[:, 0])
    return torch.stack(parts, dim=1)


def make_inverse_consistent(
    forward: Field, backward: Field, iterations: int
) -> tuple[Field, Field]:
    """Return both fields after they were moved towards each other's inverse.

    The iterations also smooth, which is welcome before a refinement; ``refinement`` takes the mean
    with one inverse instead, which keeps a field sharp.

    Args:
        forward: Field from fixed to moving scan, in voxels.
        backward: Field from moving to fixed scan, on the same grid.
        iterations: Number of updates.
    """
    for _ in range(iterations):
        forward, backward = (
            (forward - (compose(backward, forward) - forward)) / 2,
            (backward - (compose(forward, backward) - backward)) / 2,
        )
    return forward, backward


def search_shape(shape: Shape3, stride: int) -> Shape3:
    """Return the shape of a grid with a voxel for every ``stride`` voxels of ``shape``."""
    i, j, k = (max(2, -(-(size - 1) // stride) + 1) for size in shape)
    return (i, j, k)
