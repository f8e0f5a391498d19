"""Look up a volume through a displacement field.

The field convention of l2reg, stated once:

    warped(p) = moving(p + disp(p))        for every voxel p of the fixed grid

    axis order   component 0 moves along i, 1 along j, 2 along k
    unit         voxels
    direction    fixed to moving: the field lives on the fixed grid and says where to look

It is the convention of ``scipy.ndimage.map_coordinates`` and of the Learn2Reg evaluation. This
module is the only door to ``grid_sample``, which counts axes the other way round.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from l2reg.shapes import Field, Points

Interpolation = Literal["bilinear", "nearest"]
Padding = Literal["border", "zeros"]


def warp(
    moving: Float[Tensor, "b c mi mj mk"],
    disp: Field,
    *,
    interpolation: Interpolation = "bilinear",
    padding: Padding = "border",
) -> Float[Tensor, "b c i j k"]:
    """Return ``moving`` on the grid of ``disp``.

    Half-precision input is converted first: positions need all the digits of float32, whatever
    autocast does around this call.

    Args:
        moving: Volume to look up, of any size.
        disp: Field in the package convention.
        interpolation: ``"bilinear"`` for intensities and one-hot labels (torch's word in three
            dimensions too), ``"nearest"`` for label maps.
        padding: What a lookup outside ``moving`` returns: the nearest edge voxel, or zero.

    Returns:
        float32, or float64 if ``moving`` is.
    """
    moving, disp = _full_precision(moving, disp)
    grid = _to_torch_grid(disp + voxel_coords(disp), moving.shape[2:])
    parts = _parts(moving, grid)
    if parts > 1:
        moving = moving.expand(parts, -1, -1, -1, -1)
        grid = grid.reshape(parts, -1, *grid.shape[2:])
    warped = F.grid_sample(moving, grid, interpolation, padding, align_corners=True)
    return warped if parts == 1 else warped.transpose(0, 1).reshape(1, -1, *disp.shape[2:])


def _parts(moving: Tensor, grid: Tensor) -> int:
    """Return into how many batch entries a single pair is cut: torch's CPU threads share those.

    An image that needs a gradient stays whole, as every part would have its own to be summed up.
    """
    n_threads = torch.get_num_threads()
    alone = len(moving) == len(grid) == 1 and moving.device.type == "cpu"
    return n_threads if alone and not moving.requires_grad and grid.shape[1] % n_threads == 0 else 1


def sample_at_points(
    volume: Float[Tensor, "b c i j k"], points: Points, *, padding: Padding = "border"
) -> Float[Tensor, "b n c"]:
    """Return ``volume`` at voxel positions, interpolated linearly.

    A fixed landmark ``q`` lies at ``q + sample_at_points(disp, q)`` in the moving image.

    Args:
        volume: Image or field.
        points: Positions in voxels of ``volume``.
        padding: What a lookup outside ``volume`` returns: the nearest edge voxel, or zero.
    """
    volume, points = _full_precision(volume, points)
    coords = points.mT[..., None, None]  # b 3 n 1 1: a volume of one row
    grid = _to_torch_grid(coords, volume.shape[2:])
    return F.grid_sample(volume, grid, "bilinear", padding, align_corners=True)[..., 0, 0].mT


def voxel_coords(like: Float[Tensor, "b c i j k"]) -> Field:
    """Return every voxel's own position: entry ``(b, :, i, j, k)`` is ``(i, j, k)``."""
    axes = [torch.arange(size, dtype=like.dtype, device=like.device) for size in like.shape[2:]]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    return grid.expand(like.shape[0], -1, -1, -1, -1)


def _to_torch_grid(coords: Field, shape: Sequence[int]) -> Float[Tensor, "b i j k 3"]:
    """Turn voxel positions (i, j, k) in a volume of ``shape`` into torch's (x, y, z).

    Torch counts x along the last array axis, hence the flip. With ``align_corners=True`` the
    centres of the first and the last voxel of an axis sit at -1 and +1.
    """
    half_length = [max(size - 1, 1) / 2 for size in shape]
    scaled = coords / coords.new_tensor(half_length).view(3, 1, 1, 1) - 1
    return scaled.flip(1).movedim(1, -1)


def _full_precision(volume: Tensor, coords: Tensor) -> tuple[Tensor, Tensor]:
    dtype = torch.float64 if volume.dtype == torch.float64 else torch.float32
    return volume.to(dtype), coords.to(dtype)
