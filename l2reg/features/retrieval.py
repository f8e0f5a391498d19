"""Retrieval: how often the feature maps of two scans find the same point again."""

import torch
from jaxtyping import Float
from torch import Tensor

from l2reg.geometry.constants import constant
from l2reg.geometry.warp import sample_at_points
from l2reg.shapes import Maps, Points


def retrieval_rate(
    maps: tuple[Maps, Maps], points: tuple[Points, Points], *, radius: int, max_error: float
) -> Float[Tensor, " b"]:
    """Return the fraction of the points that are found again, for each pair.

    A point of the fixed scan is found again if, of all voxels of the moving scan in a cube around
    the same position, the one with the smallest squared difference of features lies near its true
    position. Points whose true positions lie outside their cubes do not count.

    Args:
        maps: Feature maps of the fixed and of the moving scan, on one grid.
        points: Positions of the same points in both scans, in voxels; the fixed ones are voxels.
        radius: Largest distance along each axis in the cube, in voxels.
        max_error: Largest distance from the true position, in voxels.
    """
    fixed, moving = points
    steps = torch.arange(-radius, radius + 1, device=fixed.device, dtype=fixed.dtype)
    offsets = torch.cartesian_prod(steps, steps, steps)
    features = sample_at_points(maps[0], fixed)
    rates = []
    for pair in range(len(fixed)):
        places = fixed[pair, :, None] + offsets
        last = constant(places, maps[1].shape[2:]) - 1
        inside = ((places >= 0) & (places <= last)).all(dim=2)
        values = sample_at_points(maps[1][pair : pair + 1], places.view(1, -1, 3))
        difference = (values.view(*places.shape[:2], -1) - features[pair, :, None]).square().sum(2)
        nearest = difference.masked_fill(~inside, torch.inf).argmin(dim=1)
        found = fixed[pair] + offsets[nearest]
        counts = (moving[pair] - fixed[pair]).abs().amax(dim=1) <= radius
        hits = ((found - moving[pair]).norm(dim=1) <= max_error) & counts
        rates.append(hits.sum() / counts.sum().clamp(min=1))
    return torch.stack(rates)
