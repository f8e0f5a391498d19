"""Gauss-Newton registration on one grid: deform until two feature maps agree.

The field lives on a coarse control grid and is interpolated linearly. Each step solves

    (H + (elastic + viscous) L) step = -(g + elastic L disp)

where g is the gradient of the data term (half the weighted squared difference of the features,
mean over voxels), H its Gauss-Newton matrix, one 3x3 block per control point, and L the matrix of
the diffusion energy in mm. ``elastic`` pulls the whole deformation back, ``viscous`` only the
step, so that large deformations stay free. Steps are composed, ``disp <- disp o (id + step)``, not
added, and kept below 0.4 control voxels: a smooth step of that size has an inverse (Choi and Lee
2000 for cubic B-splines), and so has what is composed of them, but for interpolation. With little
viscosity a field can still fold; the scores count it.

Compared with gradient descent a step costs no backward pass and takes the curvature into account:
three to six steps a level do the work of some dozens.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from l2reg.geometry.compose import compose
from l2reg.geometry.filters import smooth
from l2reg.geometry.resize import resample, resize_field, voxel_ratio
from l2reg.geometry.warp import warp
from l2reg.optimisation.point_term import PointMatches
from l2reg.shapes import ControlField, Field, Image, Mask, Shape3, StartField

LARGEST_STEP = 0.4  # control voxels; below 0.48 a cubic B-spline has an inverse

_SLAB_VALUES = 2**21  # of one feature map on the CPU: temporaries stay in its cache
_CG_TOLERANCE = 0.03

Blocks = Float[Tensor, "b 6 ci cj ck"]  # 3x3 symmetric: ii, ij, ik, jj, jk, kk
_ROWS = ((0, 1, 2), (1, 3, 4), (2, 4, 5))  # where the entries of a row lie in Blocks


@dataclass(frozen=True)
class Regularisation:
    """How a field is kept smooth.

    Attributes:
        elastic: Weight of the diffusion energy of the whole deformation.
        viscous: Weight of that of every step.
        smoothing: Box means over three control voxels that a step is made of: a box twice is
            nearly a cubic B-spline.
    """

    elastic: float
    viscous: float
    smoothing: int


@dataclass(frozen=True)
class StepSettings:
    """How long to go on, and how finely.

    Attributes:
        control: Voxels between control points.
        most: Steps at most.
        tolerance: Stop when a step moves the control points by less on average, in voxels.
        solver: Conjugate-gradient iterations per step at most.
    """

    control: int
    most: int
    tolerance: float
    solver: int


def gauss_newton(
    features: tuple[Image, Image],
    weight: Mask,
    disp: StartField,
    spacing_mm: Float[Tensor, "b 3"],
    stiffness: Regularisation,
    steps: StepSettings,
    matches: PointMatches | None = None,
) -> ControlField:
    """Return ``disp`` improved so that the moving features fit the fixed ones.

    Args:
        features: Of the fixed and the moving scan, on the same grid.
        weight: Of every fixed voxel, 0 where nothing is to be compared.
        disp: Where to start, in voxels of its own grid, which may be any.
        spacing_mm: Voxel size of the scans' grid.
        stiffness: How smooth it must be.
        steps: How long to go on.
        matches: Points that are to fit as well, of one pair.

    Returns:
        The field on the control grid, in voxels of that grid.
    """
    i, j, k = weight.shape[2:]
    shape = (i, j, k)
    control = control_shape(shape, steps.control)
    ratio = disp.new_tensor(voxel_ratio(control, shape)).view(3, 1, 1, 1)
    bending = _bending(spacing_mm, ratio)
    current = resize_field(disp, control) * ratio  # in voxels of the scans, as everything below
    for _ in range(steps.most):
        blocks, gradient = _normal_equations(*features, weight, resample(current, shape), control)
        if matches is not None:
            further, pulling = matches.normal_equations(current, shape)
            blocks, gradient = blocks + further, gradient + pulling
        pull = smooth(gradient, stiffness.smoothing)
        pull = pull + stiffness.elastic * _diffusion(current, bending)
        step = _solved(blocks, -pull, bending, stiffness, steps.solver)
        step = smooth(step, stiffness.smoothing)
        step = step.clamp(-LARGEST_STEP * ratio, LARGEST_STEP * ratio)
        current = compose(current / ratio, step / ratio) * ratio
        if float(step.abs().mean()) < steps.tolerance:
            break
    return current / ratio


def control_shape(shape: Shape3, spacing: int) -> Shape3:
    """Return the grid of control points: that of a submission if every second voxel has one."""
    i, j, k = (max(2, -(-size // spacing)) if size > 1 else 1 for size in shape)
    return (i, j, k)


def _normal_equations(
    fixed: Image, moving: Image, weight: Mask, disp: Field, control: Shape3
) -> tuple[Blocks, ControlField]:
    """Return matrix and gradient of the data term at the control points.

    Derivatives are the mean of those of the fixed and the warped map (efficient second-order
    minimisation, Benhimane and Malis 2004). Sums over voxels are spread to the control points by
    the transpose of linear interpolation; off-diagonal blocks are added to the diagonal.
    """
    sums: list[Tensor] = []
    along = [_interpolation(size, n, disp) for size, n in zip(disp.shape[2:], control, strict=True)]
    for start, stop in _slabs(fixed):
        low, high = max(start - 1, 0), min(stop + 1, disp.shape[2])  # neighbours along i
        inner = slice(start - low, stop - low)
        here = fixed[:, :, low:high]
        there = _warped_slab(moving, disp, low, high)
        mean = (here + there).mul_(0.5)
        slopes = [torch.gradient(mean, dim=2 + axis)[0][:, :, inner] for axis in range(3)]
        weighted = [slope * weight[:, :, start:stop] for slope in slopes]
        misfit = (there - here)[:, :, inner]
        pairs = [(a, slopes[b]) for n, a in enumerate(weighted) for b in range(n, 3)]
        products = [(a * b).sum(dim=1) for a, b in pairs]
        products += [(a * misfit).sum(dim=1) for a in weighted]
        spread = torch.stack(products, dim=1) @ along[2]
        sums.append(along[1].T @ spread)
    reduced = torch.cat(sums, dim=2)
    spread = torch.einsum("bcijk,in->bcnjk", reduced, along[0])
    spread /= disp[0, 0].numel() / float(torch.tensor(control).prod())  # mean over voxels
    return spread[:, :6], spread[:, 6:]


def _warped_slab(
    moving: Image, disp: Field, low: int, high: int
) -> Float[Tensor, "b c planes j k"]:
    """Return planes ``low`` to ``high`` of the warped image."""
    part = disp[:, :, low:high].clone()
    part[:, 0] += low  # positions are counted from the volume's first plane
    return warp(moving, part)


def _slabs(image: Image) -> Iterator[tuple[int, int]]:
    n_planes = image.shape[2]
    if image.device.type == "cpu":
        n_planes = max(8, _SLAB_VALUES // (image[:, :, 0].numel()))
    for start in range(0, image.shape[2], n_planes):
        yield start, min(start + n_planes, image.shape[2])


def _interpolation(size: int, n_control: int, like: Tensor) -> Float[Tensor, "size n_control"]:
    """Return the matrix that interpolates control points to voxels along an axis."""
    eye = torch.eye(n_control, dtype=like.dtype, device=like.device)[None]
    return F.interpolate(eye, size=size, mode="linear", align_corners=True)[0].T


def _bending(spacing_mm: Float[Tensor, "b 3"], ratio: Float[Tensor, "3 1 1 1"]) -> Tensor:
    """Return the weight of every component's difference along every axis: (axes, b, 3, 1, 1, 1)."""
    step_mm = spacing_mm * ratio.flatten()
    weights = spacing_mm[None].square() / step_mm.T[:, :, None].square()
    return weights[..., None, None, None]


def _diffusion(field: Field, bending: Tensor) -> Field:
    """Return the gradient of half the diffusion energy: minus the Laplacian, free at the border."""
    total = torch.zeros_like(field)
    for axis, weight in enumerate(bending):
        n = field.shape[2 + axis]
        difference = field.diff(dim=2 + axis) * weight
        total.narrow(2 + axis, 1, n - 1).add_(difference)
        total.narrow(2 + axis, 0, n - 1).sub_(difference)
    return total


def _solved(
    blocks: Blocks, target: Field, bending: Tensor, stiffness: Regularisation, most: int
) -> Field:
    """Solve for the step by conjugate gradients, preconditioned by the diagonal."""
    weight = stiffness.elastic + stiffness.viscous

    def matrix(field: Field) -> Field:
        smoothed = smooth(field, stiffness.smoothing)
        rows = [
            blocks[:, a] * smoothed[:, 0]
            + blocks[:, b] * smoothed[:, 1]
            + blocks[:, c] * smoothed[:, 2]
            for a, b, c in _ROWS
        ]
        data = smooth(torch.stack(rows, dim=1), stiffness.smoothing)
        return data + weight * _diffusion(field, bending)

    diagonal = smooth(blocks[:, [0, 3, 5]], min(stiffness.smoothing, 1))
    diagonal = diagonal + 2 * weight * bending.sum(dim=0) + 1e-12
    return _conjugate_gradients(matrix, target, diagonal, most)


def _conjugate_gradients(
    matrix: Callable[[Field], Field], target: Field, diagonal: Tensor, most: int
) -> Field:
    def dot(a: Field, b: Field) -> Tensor:
        return (a * b).sum(dim=(1, 2, 3, 4), keepdim=True)

    solution, residual = torch.zeros_like(target), target.clone()
    scaled = residual / diagonal
    direction, size = scaled, dot(residual, scaled)
    enough = size * _CG_TOLERANCE**2
    for _ in range(most):
        if bool((size <= enough).all()):
            break
        image = matrix(direction)
        length = size / dot(direction, image).clamp(min=1e-30)
        solution = solution + length * direction
        residual = residual - length * image
        scaled = residual / diagonal
        before, size = size, dot(residual, scaled)
        direction = scaled + size / before.clamp(min=1e-30) * direction
    return solution
