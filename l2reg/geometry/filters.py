"""Box filters: one cuts the box off at the border of the volume, the other repeats the edge."""

import torch.nn.functional as F

from l2reg.shapes import Image, Mask


def box_mean(volume: Image, window: int) -> Image:
    """Return the mean over a cube around every voxel; cubes are cut off at the border.

    Along an axis with fewer voxels than ``window`` the width is the largest odd number that fits.

    Args:
        volume: Volume to filter.
        window: Edge length of the cube, an odd number of voxels.
    """
    for axis, voxels in enumerate(volume.shape[2:]):
        size, padding = [1, 1, 1], [0, 0, 0]
        size[axis] = min(window, voxels - 1 + voxels % 2)
        padding[axis] = size[axis] // 2
        volume = F.avg_pool3d(volume, size, stride=1, padding=padding, count_include_pad=False)
    return volume


def smooth(volume: Image, passes: int) -> Image:
    """Return ``volume`` after ``passes`` box means over three voxels along each axis.

    The edge voxels are repeated beyond the border, which makes the filter self-adjoint. Two passes
    are nearly a cubic B-spline filter.
    """
    for _ in range(passes):
        volume = F.avg_pool3d(F.pad(volume, [1] * 6, mode="replicate"), 3, stride=1)
    return volume


def erode(mask: Mask, radius: int) -> Mask:
    """Return the minimum of ``mask`` over the cube of ``2 * radius + 1`` voxels around every voxel.

    The cube is cut off at the border: a mask of ones stays as it is.
    """
    if radius == 0:
        return mask
    return 1 - F.max_pool3d(1 - mask, 2 * radius + 1, stride=1, padding=radius)
