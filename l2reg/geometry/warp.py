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
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from l2reg.shapes import Field, Mask, Points

Interpolation = Literal["bilinear", "nearest"]
Padding = Literal["border", "zeros"]


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
    grid = to_torch_grid(disp + voxel_coords(disp), moving.shape[2:])
    parts = _n_parts(moving, grid)
    if parts > 1:
        moving = moving.expand(parts, -1, -1, -1, -1)
        grid = grid.reshape(parts, -1, *grid.shape[2:])
    warped = F.grid_sample(moving, grid, interpolation, padding, align_corners=True)
    return warped if parts == 1 else warped.transpose(0, 1).reshape(1, -1, *disp.shape[2:])


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


def _n_parts(moving: Tensor, grid: Tensor) -> int:
    """Return the number of batch entries that a single pair is split into.

    Torch distributes batch entries over its CPU threads. An image that needs a gradient is not
    split: every part would have a gradient of its own, and these would have to be summed.
    """
    n_threads = torch.get_num_threads()
    single = len(moving) == len(grid) == 1 and moving.device.type == "cpu"
    if single and not moving.requires_grad and grid.shape[1] % n_threads == 0:
        return n_threads
    return 1


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
    last = coords.new_tensor(shape).view(3, 1, 1, 1) - 1
    inside = (coords >= 0) & (coords <= last)
    return inside.all(dim=1, keepdim=True).to(coords.dtype)


def to_torch_grid(coords: Field, shape: Sequence[int]) -> Float[Tensor, "b i j k 3"]:
    """Convert voxel positions (i, j, k) in a volume of ``shape`` to torch's (x, y, z).

    Torch counts x along the last array axis, hence the flip. With ``align_corners=True`` the
    centres of the first and the last voxel of an axis are at -1 and +1.
    """
    half_length = [max(size - 1, 1) / 2 for size in shape]
    scaled = coords / coords.new_tensor(half_length).view(3, 1, 1, 1) - 1
    return scaled.flip(1).movedim(1, -1)


def from_torch_grid(grid: Float[Tensor, "b i j k 3"], shape: Sequence[int]) -> Field:
    """Return the voxel positions of a grid of torch, see ``to_torch_grid``."""
    half_length = [max(size - 1, 1) / 2 for size in shape]
    return (grid.movedim(-1, 1).flip(1) + 1) * grid.new_tensor(half_length).view(3, 1, 1, 1)


def _full_precision(volume: Tensor, coords: Tensor) -> tuple[Tensor, Tensor]:
    """Return both tensors in float32, or in float64 if ``volume`` is."""
    dtype = torch.float64 if volume.dtype == torch.float64 else torch.float32
    return volume.to(dtype), coords.to(dtype)
