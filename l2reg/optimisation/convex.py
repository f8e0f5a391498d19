"""Discrete search for a smooth deformation, without training (Siebert et al. 2021, ConvexAdam).

Every voxel of a coarse grid tries all offsets of a cube; a coupled convex optimisation (Heinrich,
Papiez, Schnabel and Handels 2014) picks one for each, so that neighbours agree. No start is needed,
and large motion is no harder than small.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from l2reg.batch import Batch
from l2reg.features.extractor import FeatureExtractor
from l2reg.geometry.compose import compose
from l2reg.geometry.filters import box_mean, smooth
from l2reg.geometry.resize import resample, resize_field, resize_image
from l2reg.models.prediction import Prediction
from l2reg.shapes import Field, Image, Mask, Shape3, WorkingGrid, as_working_grid

COUPLINGS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # weaker to stronger, of ConvexAdam

_CONSISTENCY_ROUNDS = 15

Costs = Float[Tensor, "b offsets i j k"]
Choice = Int[Tensor, "b 1 i j k"]


class Convex(nn.Module):
    """Registers a pair by search; it has nothing to learn.

    Args:
        grid: Working grid.
        features: What is compared.
        stride: Working voxels between search voxels.
        radius: Offsets go this far each way, in search voxels: the capture range is ``stride *
            radius`` working voxels.
        smoothing: Box means of the costs over three search voxels.
        consistent: Whether both directions are searched and brought together.
    """

    def __init__(
        self,
        grid: WorkingGrid,
        features: FeatureExtractor,
        stride: int,
        radius: int,
        smoothing: int,
        consistent: bool,
    ) -> None:
        super().__init__()
        if stride < 1 or radius < 1:
            raise ValueError(f"stride and radius must be 1 or more, got {stride}, {radius}")
        self.grid = as_working_grid(grid)
        self.features = features
        self.stride = stride
        self.radius = radius
        self.smoothing = smoothing
        self.consistent = consistent

    @torch.no_grad()
    def forward(self, batch: Batch) -> Prediction:
        """Return the field of each pair on the working grid."""
        i, j, k = batch["fixed"].shape[2:]
        shape = search_shape((i, j, k), self.stride)
        with torch.autocast(batch["fixed"].device.type, enabled=False):
            maps = self.features(batch["fixed"].float(), batch["moving"].float())
            fixed, moving = (resize_image(image, shape) for image in maps)
            masks = [resample(batch[n].float(), shape) for n in ("fixed_mask", "moving_mask")]
            there = discrete_search(fixed, moving, masks[0], self.radius, self.smoothing)
            if self.consistent:
                back = discrete_search(moving, fixed, masks[1], self.radius, self.smoothing)
                there = _agreed(there, back)
            return Prediction(resize_field(there, (i, j, k)))


def discrete_search(fixed: Image, moving: Image, mask: Mask, radius: int, smoothing: int) -> Field:
    """Return the smooth field by which the moving map fits the fixed one best, in voxels.

    Args:
        fixed: Map of the fixed scan.
        moving: Map of the moving scan, same grid.
        mask: Of the fixed scan.
        radius: Largest offset along each axis.
        smoothing: Box means of the costs over three voxels.
    """
    costs = ssd_cost_volume(fixed, moving, mask, radius)
    for _ in range(smoothing):
        costs = box_mean(costs, 3)
    return coupled_convex(costs, radius)


def ssd_cost_volume(fixed: Image, moving: Image, mask: Mask, radius: int) -> Costs:
    """Return how badly every voxel fits the moving voxel at every offset.

    The squared difference summed over channels, in units of its mean over the volume. Beyond the
    border the moving map keeps its last value; voxels outside the mask cost nothing anywhere.

    Args:
        fixed: Map of the fixed scan.
        moving: Map of the moving scan, same grid.
        mask: Of the fixed scan.
        radius: Largest offset along each axis.

    Returns:
        Offsets in the order of ``offsets(radius)``.
    """
    padded = F.pad(moving, [radius] * 6, mode="replicate")
    i, j, k = fixed.shape[2:]
    costs = fixed.new_empty((len(fixed), (2 * radius + 1) ** 3, i, j, k))
    for n, (di, dj, dk) in enumerate((offsets(radius).int() + radius).tolist()):
        there = padded[:, :, di : di + i, dj : dj + j, dk : dk + k]
        torch.sum((there - fixed).square_(), dim=1, out=costs[:, n])
    costs *= mask
    costs /= costs.mean().clamp(min=1e-12)
    return costs


def offsets(radius: int) -> Float[Tensor, "offsets 3"]:
    """Return all offsets of the cube, the last axis fastest."""
    steps = torch.arange(-radius, radius + 1, dtype=torch.float32)
    return torch.cartesian_prod(steps, steps, steps)


def coupled_convex(costs: Costs, radius: int) -> Field:
    """Return the smooth field that best follows the costs, in voxels.

    Alternates between the best offset of each voxel, given that it should be near a smooth field,
    and smoothing, ever more tightly coupled. It starts at zero, so that voxels that fit equally
    well everywhere do not move of their own. Choices are refined below a voxel by a parabola along
    each axis.
    """
    tried = offsets(radius).to(costs.device)
    field = costs.new_zeros(len(costs), 3, *costs.shape[2:])
    for coupling in COUPLINGS:
        bound = _coupled(costs, field, tried, coupling)
        choice = bound.argmin(dim=1, keepdim=True)
        field = smooth(_chosen(choice, tried) + _parabola(bound, choice, radius), passes=1)
    return field


def _coupled(costs: Costs, field: Field, tried: Tensor, coupling: float) -> Costs:
    """Return the costs and the squared distance of every offset from the field.

    What is the same for all offsets of a voxel is left out.
    """
    bound = torch.einsum("nc,bcijk->bnijk", -2 * coupling * tried, field)
    bound += coupling * tried.square().sum(dim=1).view(1, -1, 1, 1, 1)
    bound += costs
    return bound


def _chosen(choice: Choice, tried: Float[Tensor, "offsets 3"]) -> Field:
    return tried[choice[:, 0]].movedim(-1, 1)


def _parabola(costs: Costs, choice: Choice, radius: int) -> Field:
    """Return where the parabola through the chosen offset's neighbours is lowest, per axis."""
    size = 2 * radius + 1
    here = costs.gather(1, choice)[:, 0]
    parts = []
    for stride in (size * size, size, 1):
        position = choice // stride % size
        inside = (position > 0) & (position < size - 1)
        step = stride * inside
        below, above = (costs.gather(1, choice + sign * step)[:, 0] for sign in (-1, 1))
        curvature = below - 2 * here + above
        shift = (below - above) / (2 * curvature.clamp(min=1e-6))
        parts.append(shift.clamp(-0.5, 0.5) * inside[:, 0])
    return torch.stack(parts, dim=1)


def _agreed(there: Field, back: Field) -> Field:
    """Return ``there``, brought together with the inverse of ``back``.

    The rounds also smooth, which a start for the refinement wants; a field that is to stay sharp
    takes the mean with one inverse instead (``optimise.refine``).
    """
    for _ in range(_CONSISTENCY_ROUNDS):
        there, back = (
            (there - (compose(back, there) - there)) / 2,
            (back - (compose(there, back) - back)) / 2,
        )
    return there


def search_shape(shape: Shape3, stride: int) -> Shape3:
    """Return the shape of a grid with a voxel for every ``stride`` voxels of ``shape``."""
    i, j, k = (max(2, -(-(size - 1) // stride) + 1) for size in shape)
    return (i, j, k)
