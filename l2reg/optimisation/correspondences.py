"""Keypoint correspondences of a pair, found as in corrField.

Distinctive points (Foerstner and Guelch 1987) are compared patch by patch at all offsets around the
position where an initial field maps them; a correspondence is kept if the search in the opposite
direction leads back (Heinrich, Handels and Simpson 2015; Hansen and Heinrich 2021). The initial
field replaces the graph by which corrField makes neighbouring points agree.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from l2reg.batch import Batch
from l2reg.features.extractor import FeatureExtractor
from l2reg.geometry.compose import invert
from l2reg.geometry.filters import box_maximum, box_mean
from l2reg.geometry.resize import resize_points
from l2reg.geometry.warp import sample_at_points
from l2reg.optimisation.convex import offsets
from l2reg.shapes import Field, Image, Mask

_CHUNK = 256  # points that are searched together
_REGULARISATION = 1e-6  # of the structure tensor: flat places are not distinctive

Positions = Float[Tensor, "n 3"]  # voxels


@dataclass(frozen=True, kw_only=True)
class KeypointMatcher:
    """Finds keypoints of the fixed scan and their partners; there is nothing to train.

    Attributes:
        features: Feature maps that are compared.
        min_distance: Smallest distance between keypoints along some axis, in voxels.
        max_points: Largest number of keypoints; the most distinctive ones are kept.
        search_radius: Largest offset along each axis, in voxels.
        patch_radius: Patches have an edge of ``2 * patch_radius + 1`` voxels.
        consistency_tolerance: Largest distance in voxels between a keypoint and the end of the
            search in the opposite direction.
    """

    features: FeatureExtractor
    min_distance: int
    max_points: int
    search_radius: int
    patch_radius: int
    consistency_tolerance: float

    @torch.no_grad()
    def __call__(self, batch: Batch, disp: Field) -> tuple[Positions, Positions]:
        """Return positions in the fixed and in the moving scan, in voxels, row by row.

        Args:
            batch: One pair.
            disp: Field that aligns it roughly, in voxels of its own grid, which may be any.
        """
        shape = batch["fixed"].shape[2:]
        fixed, moving = self.features(batch["fixed"], batch["moving"])
        keypoints = foerstner(batch["fixed"], batch["fixed_mask"], self.min_distance)
        fixed_points = keypoints[: self.max_points]
        moving_points = fixed_points + _displacement_at(disp, fixed_points, shape)
        moving_points = moving_points + self._search(fixed, fixed_points, moving, moving_points)
        returned = moving_points + _displacement_at(invert(disp), moving_points, shape)
        returned = returned + self._search(moving, moving_points, fixed, returned)
        consistent = (returned - fixed_points).norm(dim=1) <= self.consistency_tolerance
        return fixed_points[consistent], moving_points[consistent]

    def _search(
        self, fixed: Image, fixed_points: Positions, moving: Image, moving_points: Positions
    ) -> Positions:
        """Return the offset of every partner from ``moving_points``, to a fraction of a voxel."""
        shifts = []
        for start in range(0, len(fixed_points), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            costs = self._patch_costs(fixed, fixed_points[chunk], moving, moving_points[chunk])
            shifts.append(_best_offset(costs, self.search_radius))
        return torch.cat(shifts) if shifts else torch.zeros_like(fixed_points)

    def _patch_costs(
        self, fixed: Image, fixed_points: Positions, moving: Image, moving_points: Positions
    ) -> Float[Tensor, "n o o o"]:
        """Return the mean squared difference of the patches at every offset.

        |a - b|^2 = |a|^2 - 2 ab + |b|^2: the product is a convolution with the fixed patch.
        """
        patch = _patches(fixed, fixed_points, self.patch_radius)
        region = _patches(moving, moving_points, self.patch_radius + self.search_radius)
        n, channels = patch.shape[:2]
        product = F.conv3d(
            region.flatten(0, 1)[None], patch.flatten(0, 1)[:, None], groups=n * channels
        )
        size = 2 * self.patch_radius + 1
        square = F.avg_pool3d(region.square().sum(dim=1, keepdim=True), size, stride=1)[:, 0]
        product = product.view(n, channels, *square.shape[1:]).sum(dim=1)
        return square - 2 * product / size**3


def foerstner(image: Image, mask: Mask, min_distance: int) -> Positions:
    """Return distinctive points inside ``mask``, the most distinctive first.

    A point is distinctive where the structure tensor A is large in every direction: where
    1 / trace(A^-1) has a maximum within ``min_distance`` voxels.

    Args:
        image: One scan of one channel.
        mask: Where points may lie.
        min_distance: Distance between points, in voxels along some axis.
    """
    derivatives = [torch.gradient(image, dim=2 + axis)[0] for axis in range(3)]
    aa, bb, cc = (box_mean(d * d, 3) + _REGULARISATION for d in derivatives)
    ab, ac, bc = (box_mean(derivatives[m] * derivatives[n], 3) for m, n in ((0, 1), (0, 2), (1, 2)))
    minors = (bb * cc - bc * bc) + (aa * cc - ac * ac) + (aa * bb - ab * ab)
    determinant = aa * (bb * cc - bc * bc) - ab * (ab * cc - ac * bc) + ac * (ab * bc - ac * bb)
    strength = determinant / minors * (mask > 0.5)
    highest = box_maximum(strength, min_distance - 1)
    at = ((strength == highest) & (strength > 0))[0, 0].nonzero()
    order = strength[0, 0][at.unbind(dim=1)].argsort(descending=True, stable=True)
    return at[order].to(image.dtype)


def _patches(volume: Image, centres: Positions, radius: int) -> Float[Tensor, "n c side side side"]:
    """Return the cube of ``volume`` around each position, interpolated linearly."""
    side = 2 * radius + 1
    positions = centres[:, None] + offsets(radius).to(centres)
    values = sample_at_points(volume, positions.flatten(0, 1)[None])[0]
    return values.view(len(centres), side**3, -1).mT.reshape(len(centres), -1, side, side, side)


def _best_offset(costs: Float[Tensor, "n o o o"], radius: int) -> Positions:
    """Return the offset of lowest cost, refined by a parabola along each axis."""
    n, side = len(costs), 2 * radius + 1
    flat = costs.flatten(1)
    best = flat.argmin(dim=1, keepdim=True)
    lowest = flat.gather(1, best)
    shifts = []
    for stride in (side * side, side, 1):
        position = best // stride % side
        inside = (position > 0) & (position < side - 1)
        below, above = (flat.gather(1, best + sign * stride * inside) for sign in (-1, 1))
        curvature = (below - 2 * lowest + above).clamp(min=1e-12)
        shift = ((below - above) / (2 * curvature)).clamp(-0.5, 0.5) * inside
        shifts.append(position - radius + shift)
    return torch.cat(shifts, dim=1).view(n, 3)


def _displacement_at(disp: Field, points: Positions, shape: Sequence[int]) -> Positions:
    """Return displacements at ``points``, both in voxels of a grid of ``shape``."""
    own = disp.shape[2:]
    values = sample_at_points(disp, resize_points(points[None], shape, own))
    return resize_points(values, own, shape)[0]
