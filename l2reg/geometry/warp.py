"""Warping: sample a volume at the positions that a displacement field points to.

The field convention of l2reg, stated once:

    warped(p) = moving(p + disp(p))        for every voxel p of the fixed grid

    axis order   component 0 moves along i, 1 along j, 2 along k
    unit         voxels
    direction    fixed to moving: the field lies on the fixed grid and points to moving positions

It is the convention of ``scipy.ndimage.map_coordinates`` and of the Learn2Reg evaluation. This is
the only module that calls ``grid_sample``, which has the axes in reversed order.
"""

from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from l2reg.geometry.constants import constant
from l2reg.shapes import Field, Mask, Points

Interpolation = Literal["bilinear", "nearest"]
Padding = Literal["border", "zeros"]
_INTERPOLATIONS, _PADDINGS = ("bilinear", "nearest"), ("zeros", "border")  # in torch's order


def warp(
    moving: Float[Tensor, "b c mi mj mk"],
    disp: Field,
    *,
    interpolation: Interpolation = "bilinear",
    padding: Padding = "border",
) -> Float[Tensor, "b c i j k"]:
    """Return ``moving`` sampled at ``p + disp(p)`` for every voxel p of the field's grid.

    Half-precision input is converted first, even under autocast, as positions need the precision of
    float32.

    Args:
        moving: Volume that is sampled, of any size.
        disp: Field from fixed to moving grid, in voxels.
        interpolation: ``"bilinear"`` for intensities and one-hot labels (torch's name for linear
            interpolation in three dimensions too), ``"nearest"`` for label maps.
        padding: Value outside ``moving``: that of the nearest edge voxel (``"border"``), or zero.

    Returns:
        float32, or float64 if ``moving`` is.
    """
    moving, disp = _full_precision(moving, disp)
    modes = (_INTERPOLATIONS.index(interpolation), _PADDINGS.index(padding))
    return cast(Tensor, _Warp.apply(moving, disp, *modes))  # type: ignore[no-untyped-call]


class _Warp(torch.autograd.Function):
    """``grid_sample`` that keeps no grid, and computes a single pair with all threads of a CPU.

    Torch distributes batch entries over its threads: the voxels of a single pair are made several.
    """

    @staticmethod
    def forward(ctx: Any, moving: Tensor, disp: Tensor, *modes: int) -> Tensor:
        ctx.save_for_backward(moving, disp)
        ctx.modes = modes
        n = _n_parts(moving, disp)
        moving, grid = _parts(moving, n), _split(_sampling_grid(disp, moving.shape[2:]), n)
        warped = torch.ops.aten.grid_sampler_3d(moving, grid.movedim(1, -1), *modes, True)
        return cast(Tensor, warped) if n == 1 else _join(warped, disp.shape[2:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        moving, disp = ctx.saved_tensors
        n = _n_parts(moving, disp)
        parts, grid = _parts(moving, n), _split(_sampling_grid(disp, moving.shape[2:]), n)
        of_moving, of_grid = torch.ops.aten.grid_sampler_3d_backward(
            _split(gradient, n),
            parts,
            grid.movedim(1, -1),
            *ctx.modes,
            True,
            [ctx.needs_input_grad[0], True],
        )
        of_disp = None
        if ctx.needs_input_grad[1]:
            of_disp = torch.empty_like(disp, memory_format=torch.contiguous_format)
            whole = of_grid.reshape(*disp[:, 0].shape, 3)
            for axis, half_length in enumerate(_half_lengths(moving.shape[2:])):
                torch.div(whole[..., 2 - axis], half_length, out=of_disp[:, axis])
        if of_moving is not None and n > 1:
            of_moving = torch.sum(of_moving, dim=0, keepdim=True)
        return of_moving, of_disp, None, None


def warp_with_fill(
    moving: Float[Tensor, "b c mi mj mk"], disp: Field, fill: float
) -> Float[Tensor, "b c i j k"]:
    """Return ``moving`` as ITK resamples it: interpolated linearly, and ``fill`` outside.

    ``moving`` ends half a voxel beyond the centres of its border voxels; there it has the value of
    the nearest one (see ``inside_scan``).

    Args:
        moving: Volume that is sampled, of any size.
        disp: Field from fixed to moving grid, in voxels.
        fill: Value outside ``moving``.
    """
    return torch.where(inside_scan(disp, moving.shape[2:]), warp(moving, disp), fill)


def inside_scan(disp: Field, shape: Sequence[int]) -> Bool[Tensor, "b 1 i j k"]:
    """Return where ``disp`` points into a volume that ends half a voxel beyond its centres.

    Args:
        disp: Field from the fixed grid to the grid of the volume, in voxels.
        shape: Shape of the volume. Of two faces exactly at that distance the lower one is inside.
    """
    inside = torch.ones_like(disp[:, :1], dtype=torch.bool)
    for axis, size in enumerate(shape):
        offsets = disp[:, axis : axis + 1].double()  # float32 loses voxels beside the faces
        line = [-1 if a == axis else 1 for a in range(3)]
        positions = offsets + torch.arange(disp.shape[2 + axis], device=disp.device).view(line)
        inside &= (positions >= -0.5) & (positions < size - 0.5)
    return inside


def _n_parts(moving: Tensor, disp: Field) -> int:
    """Return the number of batch entries that a single pair is split into."""
    n_threads = torch.get_num_threads()
    single = len(moving) == len(disp) == 1 and moving.device.type == "cpu"
    return n_threads if single and disp[0, 0].numel() % n_threads == 0 else 1


def _parts(moving: Tensor, n: int) -> Tensor:
    return moving if n == 1 else moving.expand(n, -1, -1, -1, -1)


def _split(volume: Float[Tensor, "b c i j k"], n: int) -> Tensor:
    """Return ``n`` parts of the voxels as batch entries, each a row of voxels."""
    if n == 1:
        return volume
    return volume.reshape(volume.shape[1], n, 1, 1, -1).movedim(1, 0)


def _join(parts: Float[Tensor, "n c 1 1 voxels"], shape: Sequence[int]) -> Tensor:
    return parts.movedim(0, 1).reshape(1, parts.shape[1], *shape)


def _sampling_grid(disp: Field, shape: Sequence[int]) -> Field:
    """Return where a field points in a volume of ``shape``, as ``to_torch_grid`` does."""
    grid = torch.empty_like(disp, memory_format=torch.contiguous_format)
    for axis, half_length in enumerate(_half_lengths(shape)):
        line = [-1 if a == axis else 1 for a in range(3)]
        steps = torch.arange(disp.shape[2 + axis], dtype=disp.dtype, device=disp.device).view(line)
        positions = grid[:, 2 - axis]
        torch.add(disp[:, axis], steps, out=positions).div_(half_length).sub_(1)
    return grid


def sample_at_points(
    volume: Float[Tensor, "b c i j k"], points: Points, *, padding: Padding = "border"
) -> Float[Tensor, "b n c"]:
    """Return the values of ``volume`` at voxel positions, interpolated linearly.

    A fixed landmark ``q`` lies at ``q + sample_at_points(disp, q)`` in the moving image.

    Args:
        volume: Image or field.
        points: Positions in voxels of ``volume``.
        padding: Value outside ``volume``: that of the nearest edge voxel (``"border"``), or zero.
    """
    volume, points = _full_precision(volume, points)
    coords = points.mT[..., None, None]  # b 3 n 1 1: a volume of one row
    grid = to_torch_grid(coords, volume.shape[2:])
    return F.grid_sample(volume, grid, "bilinear", padding, align_corners=True)[..., 0, 0].mT


def sample_in_torch_units(
    volume: Float[Tensor, "1 c i j k"], positions: Float[Tensor, "3 n"]
) -> Float[Tensor, "c n"]:
    """Return the values of ``volume`` at positions of ``to_torch_grid``, of the same precision.

    Outside it is the value of the nearest edge voxel. All threads of a CPU take part, as torch
    distributes batch entries over them.
    """
    n, parts = positions.shape[1], torch.get_num_threads()
    padded = F.pad(positions, (0, -n % parts))
    rows = padded.view(3, parts, -1).permute(1, 2, 0)[:, None, None]
    volumes = volume.expand(parts, -1, -1, -1, -1)
    sampled = F.grid_sample(volumes, rows, "bilinear", "border", align_corners=True)
    return sampled[:, :, 0, 0].movedim(0, 1).flatten(1)[:, :n]


def voxel_coords(like: Float[Tensor, "b c i j k"]) -> Field:
    """Return the position of every voxel: entry ``(b, :, i, j, k)`` is ``(i, j, k)``."""
    axes = [torch.arange(size, dtype=like.dtype, device=like.device) for size in like.shape[2:]]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    return grid.expand(like.shape[0], -1, -1, -1, -1)


def inside_volume(disp: Field, shape: Sequence[int]) -> Mask:
    """Return 1 where ``disp`` points into a volume of ``shape``, else 0. It has no gradient.

    Args:
        disp: Field from the fixed grid to the grid of the volume, in voxels.
        shape: Shape of the volume, which ends at the centres of its border voxels.
    """
    coords = disp.detach() + voxel_coords(disp)
    last = constant(coords, shape).view(3, 1, 1, 1) - 1
    inside = (coords >= 0) & (coords <= last)
    return inside.all(dim=1, keepdim=True).to(coords.dtype)


def to_torch_grid(coords: Field, shape: Sequence[int]) -> Float[Tensor, "b i j k 3"]:
    """Convert voxel positions (i, j, k) in a volume of ``shape`` to torch's (x, y, z).

    Torch counts x along the last array axis, hence the flip. With ``align_corners=True`` the
    centres of the first and the last voxel of an axis are at -1 and +1.
    """
    scaled = coords / constant(coords, _half_lengths(shape)).view(3, 1, 1, 1) - 1
    return scaled.flip(1).movedim(1, -1)


def _half_lengths(shape: Sequence[int]) -> list[float]:
    return [max(size - 1, 1) / 2 for size in shape]


def from_torch_grid(grid: Float[Tensor, "b i j k 3"], shape: Sequence[int]) -> Field:
    """Return the voxel positions of a grid of torch, see ``to_torch_grid``."""
    half_lengths = constant(grid, _half_lengths(shape)).view(3, 1, 1, 1)
    return (grid.movedim(-1, 1).flip(1) + 1) * half_lengths


def _full_precision(volume: Tensor, coords: Tensor) -> tuple[Tensor, Tensor]:
    """Return both tensors in float32, or in float64 if ``volume`` is."""
    dtype = torch.float64 if volume.dtype == torch.float64 else torch.float32
    return volume.to(dtype), coords.to(dtype)
