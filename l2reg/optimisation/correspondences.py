"""Points of the fixed scan and their partners in the moving one, found as corrField finds them.

Distinctive points (Foerstner and Guelch 1987) are compared patch by patch over all offsets around
where a field takes them; a partner counts if the search from there leads back (Heinrich, Handels
and Simpson 2015; Hansen and Heinrich 2021). The field that was found before stands in for the graph
that corrField needs to make neighbours agree.
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
from l2reg.geometry.filters import box_mean
from l2reg.geometry.resize import resize_points
from l2reg.geometry.warp import sample_at_points
from l2reg.optimisation.convex import offsets
from l2reg.shapes import Field, Image, Mask

_CHUNK = 256  # points that are searched together
_REGULARISED = 1e-6

Found = Float[Tensor, "n 3"]  # voxels


@dataclass(frozen=True, kw_only=True)
class KeypointMatcher:
    """Finds keypoints and their partners; it has nothing to learn.

    Attributes:
        features: What is compared.
        distance: Least distance between keypoints along some axis, in voxels.
        most: Keypoints at most, the most distinctive ones.
        radius: Offsets that are tried each way, in voxels.
        patch: Voxels each way that are compared.
        tolerance: How far from where it started the way back may end, in voxels.
    """

    features: FeatureExtractor
    distance: int
    most: int
    radius: int
    patch: int
    tolerance: float

    @torch.no_grad()
    def __call__(self, batch: Batch, disp: Field) -> tuple[Found, Found]:
        """Return positions in the fixed and in the moving scan, in voxels, a row for each pair.

        Args:
            batch: One pair.
            disp: A field that brings it together roughly, in voxels of its own grid, which may
                be any.
        """
        shape = batch["fixed"].shape[2:]
        fixed, moving = self.features(batch["fixed"], batch["moving"])
        start = foerstner(batch["fixed"], batch["fixed_mask"], self.distance)[: self.most]
        there = start + _at(disp, start, shape)
        there = there + self._search(fixed, start, moving, there)
        back = there + _at(invert(disp), there, shape)
        back = back + self._search(moving, there, fixed, back)
        consistent = (back - start).norm(dim=1) <= self.tolerance
        return start[consistent], there[consistent]

    def _search(self, fixed: Image, here: Found, moving: Image, there: Found) -> Found:
        """Return by how much each partner lies beside ``there``, to a fraction of a voxel."""
        shifts = []
        for part in range(0, len(here), _CHUNK):
            chunk = slice(part, part + _CHUNK)
            costs = self._patch_costs(fixed, here[chunk], moving, there[chunk])
            shifts.append(_lowest(costs, self.radius))
        return torch.cat(shifts) if shifts else torch.zeros_like(here)

    def _patch_costs(
        self, fixed: Image, here: Found, moving: Image, there: Found
    ) -> Float[Tensor, "n o o o"]:
        """Return the mean squared difference of the patches at every offset.

        |a - b|^2 = |a|^2 - 2 ab + |b|^2: the product is a convolution with the fixed patch.
        """
        patch = _cubes(fixed, here, self.patch)
        cube = _cubes(moving, there, self.patch + self.radius)
        n, channels = patch.shape[:2]
        product = F.conv3d(
            cube.flatten(0, 1)[None], patch.flatten(0, 1)[:, None], groups=n * channels
        )
        size = 2 * self.patch + 1
        square = F.avg_pool3d(cube.square().sum(dim=1, keepdim=True), size, stride=1)[:, 0]
        product = product.view(n, channels, *square.shape[1:]).sum(dim=1)
        return square - 2 * product / size**3


def foerstner(image: Image, mask: Mask, distance: int) -> Found:
    """Return distinctive points inside ``mask``, the most distinctive first.

    Distinctive is where the structure tensor A is large in every direction: where 1 / trace(A^-1)
    has a maximum within ``distance`` voxels.

    Args:
        image: One scan of one channel.
        mask: Where points may lie.
        distance: Between points, in voxels along some axis.
    """
    slopes = [torch.gradient(image, dim=2 + axis)[0] for axis in range(3)]
    aa, bb, cc = (box_mean(slope * slope, 3) + _REGULARISED for slope in slopes)
    ab, ac, bc = (box_mean(slopes[m] * slopes[n], 3) for m, n in ((0, 1), (0, 2), (1, 2)))
    minors = (bb * cc - bc * bc) + (aa * cc - ac * ac) + (aa * bb - ab * ab)
    determinant = aa * (bb * cc - bc * bc) - ab * (ab * cc - ac * bc) + ac * (ab * bc - ac * bb)
    strength = determinant / minors * (mask > 0.5)
    highest = strength
    for axis in range(3):  # a maximum over a cube, axis by axis
        window, padding = [1, 1, 1], [0, 0, 0]
        window[axis], padding[axis] = 2 * distance - 1, distance - 1
        highest = F.max_pool3d(highest, window, stride=1, padding=padding)
    at = ((strength == highest) & (strength > 0))[0, 0].nonzero()
    order = strength[0, 0][at.unbind(dim=1)].argsort(descending=True, stable=True)
    return at[order].to(image.dtype)


def _cubes(volume: Image, centres: Found, radius: int) -> Float[Tensor, "n c side side side"]:
    """Return the cube of ``volume`` around each position, interpolated."""
    side = 2 * radius + 1
    around = centres[:, None] + offsets(radius).to(centres)
    values = sample_at_points(volume, around.flatten(0, 1)[None])[0]
    return values.view(len(centres), side**3, -1).mT.reshape(len(centres), -1, side, side, side)


def _lowest(costs: Float[Tensor, "n o o o"], radius: int) -> Found:
    """Return the offset of lowest cost, refined by a parabola along each axis."""
    n, side = len(costs), 2 * radius + 1
    flat = costs.flatten(1)
    best = flat.argmin(dim=1, keepdim=True)
    here = flat.gather(1, best)
    shifts = []
    for stride in (side * side, side, 1):
        position = best // stride % side
        inside = (position > 0) & (position < side - 1)
        below, above = (flat.gather(1, best + sign * stride * inside) for sign in (-1, 1))
        curvature = (below - 2 * here + above).clamp(min=1e-12)
        shift = ((below - above) / (2 * curvature)).clamp(-0.5, 0.5) * inside
        shifts.append(position - radius + shift)
    return torch.cat(shifts, dim=1).view(n, 3)


def _at(disp: Field, points: Found, shape: Sequence[int]) -> Found:
    """Return displacements at ``points``, both in voxels of a grid of ``shape``."""
    own = disp.shape[2:]
    values = sample_at_points(disp, resize_points(points[None], shape, own))
    return resize_points(values, own, shape)[0]
