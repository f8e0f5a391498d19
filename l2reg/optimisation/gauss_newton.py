"""Gauss-Newton registration on one grid: deform until two sets of feature maps agree.

The field lives on a coarse control grid and is interpolated linearly. Each step solves

    (H + (elastic + viscous) L) step = -(g + elastic L disp)

where g is the gradient of the data term (half the weighted squared difference of the features,
mean over voxels), H its Gauss-Newton matrix, one 3x3 block per control point, and L the matrix of
the diffusion energy in mm. ``elastic`` penalises the whole deformation, ``viscous`` only the step,
so that large deformations stay free. Steps are composed, ``disp <- disp o (id + step)``, not added,
and kept below 0.4 control voxels: a smooth step of that size has an inverse (Choi and Lee 2000 for
cubic B-splines), and so has a composition of such steps, but for interpolation. With little
viscosity a field can still fold; the scores count folds.

Compared with gradient descent, a step costs no backward pass and takes the curvature into account:
three to six steps a level replace some dozens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from l2reg.geometry.compose import compose
from l2reg.geometry.constants import constant
from l2reg.geometry.filters import smooth
from l2reg.geometry.resize import resample, resize_field, voxel_ratio
from l2reg.geometry.warp import warp
from l2reg.optimisation.conjugate_gradients import conjugate_gradients
from l2reg.optimisation.point_term import PointMatches
from l2reg.shapes import ControlField, Field, Image, Mask, PerPair, Shape3, StartField

LARGEST_STEP = 0.4  # control voxels; below 0.48 a cubic B-spline has an inverse

_SLAB_VALUES = 2**21  # values of one feature map on the CPU: temporaries stay in its cache

Moving = Float[Tensor, "b c mi mj mk"]
Blocks = Float[Tensor, "b 6 ci cj ck"]  # 3x3 symmetric: ii, ij, ik, jj, jk, kk
_COLUMNS = ((0, 1, 2), (1, 3, 4), (2, 4, 5))  # where the entries of a column lie in Blocks


@dataclass(frozen=True)
class Regularisation:
    """How a field is kept smooth.

    Attributes:
        elastic: Weight of the diffusion energy of the whole deformation.
        viscous: Weight of the diffusion energy of every step.
        smoothing_passes: Number of box means over three control voxels that a step consists of; two
            are nearly a cubic B-spline.
        factor: Factor of both weights, of each pair.
    """

    elastic: float
    viscous: float
    smoothing_passes: int
    factor: PerPair | None = None


@dataclass(frozen=True)
class StepSettings:
    """Number and accuracy of the steps, and the grid that they are taken on.

    Attributes:
        control_spacing: Voxels between control points.
        max_steps: Largest number of steps.
        step_tolerance: The last step moves the control points with data by less than this on
            average, in voxels.
        cg_iterations: Largest number of conjugate-gradient iterations per step.
        cg_tolerance: The last iteration leaves less than this fraction of the residual's norm.
    """

    control_spacing: int
    max_steps: int
    step_tolerance: float
    cg_iterations: int
    cg_tolerance: float


def gauss_newton(
    features: tuple[Image, Image],
    masks: tuple[Mask, Mask],
    disp: StartField,
    spacing_mm: Float[Tensor, "b 3"],
    regularisation: Regularisation,
    settings: StepSettings,
    matches: PointMatches | None = None,
) -> ControlField:
    """Return ``disp`` improved such that the moving features match the fixed ones.

    Args:
        features: Feature maps of the fixed and of the moving scan, on the same grid.
        masks: Masks of both scans. A fixed voxel has the weight of the fixed mask times that of the
            moving mask where the current field samples it, and 0 outside the moving volume.
        disp: Initial field, in voxels of its own grid.
        spacing_mm: Voxel size of the scans' grid.
        regularisation: How the field is kept smooth.
        settings: Number and accuracy of the steps.
        matches: Corresponding points as a further data term, of one pair.

    Returns:
        The field on the control grid, in voxels of that grid.
    """
    i, j, k = masks[0].shape[2:]
    shape = (i, j, k)
    control = control_shape(shape, settings.control_spacing)
    ratio = constant(disp, voxel_ratio(control, shape)).view(3, 1, 1, 1)
    weights = _diffusion_weights(spacing_mm, ratio)
    if regularisation.factor is not None:
        weights = weights * regularisation.factor.view(-1, 1, 1, 1, 1)
    passes = regularisation.smoothing_passes
    current = resize_field(disp, control) * ratio  # in voxels of the scans, as everything below
    box = _bounding_box(masks[0])
    fixed, fixed_mask = features[0][box].contiguous(), masks[0][box]
    origin = ratio.new_tensor([side.start for side in box[2:]]).view(3, 1, 1, 1)
    sides = list(zip(box[2:], shape, strict=True))[::-1]
    margins = [margin for side, n in sides for margin in (side.start, n - side.stop)]
    along = _interpolations(shape, control, box, disp)
    for _ in range(settings.max_steps):
        dense = resample(current, shape)[box] + origin  # from the box to the moving scan
        weight = fixed_mask * warp(masks[1], dense, padding="zeros")
        blocks, gradient = _normal_equations(fixed, features[1], weight, dense, along)
        if matches is not None:
            point_blocks, point_gradient = matches.normal_equations(current, shape)
            blocks, gradient = blocks + point_blocks, gradient + point_gradient
        gradient = smooth(gradient, passes)
        gradient = _add_diffusion_gradient(gradient, current, regularisation.elastic * weights)
        step = _solve_step(blocks, -gradient, weights, regularisation, settings)
        step = smooth(step, passes)
        step = step.clamp(-LARGEST_STEP * ratio, LARGEST_STEP * ratio)
        current = compose(current / ratio, step / ratio) * ratio
        reached = (F.adaptive_max_pool3d(F.pad(weight, margins), control) > 0).to(step.dtype)
        if _mean_over(step.abs(), reached) < settings.step_tolerance:
            break
    return current / ratio


def _mean_over(values: Field, mask: Mask) -> float:
    """Return the mean of all components where ``mask`` holds; 0 where it holds nowhere."""
    return float((values * mask).sum() / (mask.sum() * values.shape[1]).clamp(min=1))


def control_shape(shape: Shape3, spacing: int) -> Shape3:
    """Return the grid of control points: that of a submission if every second voxel has one."""
    i, j, k = (max(2, -(-size // spacing)) if size > 1 else 1 for size in shape)
    return (i, j, k)


def _bounding_box(mask: Mask) -> tuple[slice, ...]:
    """Return the box of the voxels that count, and a voxel around it that derivatives need."""
    box = [slice(None), slice(None)]
    for axis in range(2, 5):
        others = [other for other in range(5) if other != axis]
        inside = mask.amax(dim=others).nonzero().flatten().tolist() or [0]
        box.append(slice(max(inside[0] - 1, 0), min(inside[-1] + 2, mask.shape[axis])))
    return tuple(box)


def _interpolations(
    shape: Shape3, control: Shape3, box: tuple[slice, ...], like: Tensor
) -> list[Tensor]:
    """Return the matrix of every axis that interpolates control points to the voxels of a box.

    They are divided by the number of voxels per control point: sums over voxels become means.
    """
    return [
        _interpolation(size, n, like)[side] * (n / size)
        for size, n, side in zip(shape, control, box[2:], strict=True)
    ]


def _normal_equations(
    fixed: Image, moving: Moving, weight: Mask, disp: Field, along: Sequence[Tensor]
) -> tuple[Blocks, ControlField]:
    """Return matrix and gradient of the data term at the control points.

    Derivatives are the mean of those of the fixed and the warped map (efficient second-order
    minimisation, Benhimane and Malis 2004). Sums over voxels are spread to the control points by
    the transpose of linear interpolation, ``along``; off-diagonal blocks are added to the diagonal.
    """
    sums: list[Tensor] = []
    for start, stop in _slabs(fixed):
        low, high = max(start - 1, 0), min(stop + 1, disp.shape[2])  # neighbours along i
        inner = slice(start - low, stop - low)
        fixed_slab = fixed[:, :, low:high]
        warped_slab = _warped_slab(moving, disp, low, high)
        residual = (warped_slab - fixed_slab)[:, :, inner]
        total = warped_slab.add_(fixed_slab)
        derivatives = [_differences(total, axis)[:, :, inner] for axis in range(3)]
        pairs = [(a, b) for n, a in enumerate(derivatives) for b in derivatives[n:]]
        pairs += [(a, residual) for a in derivatives]
        products = torch.stack([(a * b).sum(dim=1) for a, b in pairs], dim=1)
        products *= weight[:, :, start:stop]
        sums.append(along[1].T @ (products @ along[2]))
    reduced = torch.cat(sums, dim=2)
    spread = torch.einsum("bcijk,in->bcnjk", reduced, along[0])
    return spread[:, :6] / 16, spread[:, 6:] / 4  # the derivatives are a quarter of the differences


def _differences(total: Image, axis: int) -> Image:
    """Return the difference of the two neighbours along an axis, twice the only one at an edge."""
    dim, n = 2 + axis, total.shape[2 + axis]
    differences = torch.zeros_like(total)
    if n > 1:
        ahead, behind = total.narrow(dim, 2, n - 2), total.narrow(dim, 0, n - 2)
        torch.sub(ahead, behind, out=differences.narrow(dim, 1, n - 2))
        for at, first in ((0, 0), (n - 1, n - 2)):
            edge = total.select(dim, first + 1) - total.select(dim, first)
            differences.select(dim, at).copy_(2 * edge)
    return differences


def _warped_slab(
    moving: Moving, disp: Field, low: int, high: int
) -> Float[Tensor, "b c planes j k"]:
    """Return planes ``low`` to ``high`` of the warped image."""
    part = disp[:, :, low:high].clone()
    part[:, 0] += low  # positions are counted from the volume's first plane
    return warp(moving, part)


def _slabs(image: Image) -> Iterator[tuple[int, int]]:
    n_planes = image.shape[2]
    if image.device.type == "cpu":
        n_planes = max(8, _SLAB_VALUES // image[:, :, 0].numel())
    for start in range(0, image.shape[2], n_planes):
        yield start, min(start + n_planes, image.shape[2])


def _interpolation(size: int, n_control: int, like: Tensor) -> Float[Tensor, "size n_control"]:
    """Return the matrix that interpolates control points to voxels along an axis."""
    eye = torch.eye(n_control, dtype=like.dtype, device=like.device)[None]
    return F.interpolate(eye, size=size, mode="linear", align_corners=True)[0].T


def _diffusion_weights(
    spacing_mm: Float[Tensor, "b 3"], ratio: Float[Tensor, "3 1 1 1"]
) -> Float[Tensor, "axes b 3 1 1 1"]:
    """Return the weight of every component's squared difference along every axis."""
    step_mm = spacing_mm * ratio.flatten()
    weights = spacing_mm[None].square() / step_mm.T[:, :, None].square()
    return weights[..., None, None, None]


def _add_diffusion_gradient(
    total: Field, field: Field, weights: Float[Tensor, "axes b 3 1 1 1"]
) -> Field:
    """Add the gradient of half the diffusion energy: minus the Laplacian, free at the border."""
    for axis, weight in enumerate(weights):
        n = field.shape[2 + axis]
        difference = field.diff(dim=2 + axis).mul_(weight)
        total.narrow(2 + axis, 1, n - 1).add_(difference)
        total.narrow(2 + axis, 0, n - 1).sub_(difference)
    return total


def _solve_step(
    blocks: Blocks,
    target: Field,
    weights: Float[Tensor, "axes b 3 1 1 1"],
    regularisation: Regularisation,
    settings: StepSettings,
) -> Field:
    """Solve for the step by conjugate gradients, preconditioned by the diagonal."""
    passes = regularisation.smoothing_passes

    def matrix(field: Field) -> Field:
        smoothed = smooth(field, passes)
        product = columns[0] * smoothed[:, :1]
        for n in (1, 2):
            product.addcmul_(columns[n], smoothed[:, n : n + 1])
        return _add_diffusion_gradient(smooth(product, passes), field, stiffness)

    columns = [blocks[:, list(entries)] for entries in _COLUMNS]
    stiffness = (regularisation.elastic + regularisation.viscous) * weights
    diagonal = smooth(blocks[:, [0, 3, 5]], min(passes, 1)) + 2 * stiffness.sum(dim=0) + 1e-12
    return conjugate_gradients(
        matrix, target, diagonal, settings.cg_iterations, settings.cg_tolerance
    )
