"""Tensor shapes: type names for the tensors of l2reg, working grids and their shapes.

Axis letters are the same in every signature, comment and error message:

    b        pair index inside a batch
    c        image channel or feature map
    m        output feature map of a layer
    l        label channel of a one-hot segmentation
    i, j, k  array axes of the volume, in the order nibabel returns them
    n        landmark index

The letters x, y and z are not used: they stand for the reversed axis order that
``torch.nn.functional.grid_sample`` expects, to which only ``geometry/warp.py`` converts.
"""

from collections.abc import Sequence
from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor

Image = Float[Tensor, "b c i j k"]
Maps = Float[Tensor, "b m i j k"]
OneHot = Float[Tensor, "b l i j k"]
LabelMap = Int[Tensor, "b 1 i j k"]
Mask = Float[Tensor, "b 1 i j k"]  # 1 inside, 0 outside
Field = Float[Tensor, "b 3 i j k"]
ImagePair = tuple[Image, Float[Tensor, "b c mi mj mk"]]  # of two scans, each on its own grid
MaskPair = tuple[Mask, Float[Tensor, "b 1 mi mj mk"]]
Points = Float[Tensor, "b n 3"]  # voxel positions along i, j, k
ControlField = Float[Tensor, "b 3 ci cj ck"]  # on a grid of control points
StartField = Float[Tensor, "b 3 _i _j _k"]  # on a grid that differs from the others
Affine = Float[Tensor, "b 3 4"]  # voxel positions to voxel positions
PerPair = Float[Tensor, " b"]
Scalar = Float[Tensor, ""]

Shape3 = tuple[int, int, int]
Spacing = tuple[float, float, float]  # mm per voxel along i, j, k

WorkingGrid = Literal["half", "full"] | Sequence[int]  # or three sizes, in voxels along i, j, k


def working_shape(shape: Shape3, grid: WorkingGrid) -> Shape3:
    """Return the shape of the grid on which a network works, for scans of ``shape``.

    Args:
        shape: Shape of the task's grid.
        grid: Working grid. ``half`` rounds up, and for even sizes has the shape of a submission;
            three numbers are the shape itself.
    """
    if grid == "full":
        return shape
    i, j, k = ((size + 1) // 2 for size in shape) if grid == "half" else map(int, grid)
    return (i, j, k)


def as_working_grid(grid: WorkingGrid) -> WorkingGrid:
    """Return a working grid as read from YAML, its three sizes copied to a list if it has them.

    Raises:
        ValueError: If it is neither ``half``, ``full`` nor three sizes of 2 voxels or more.
    """
    sizes = () if isinstance(grid, str) else tuple(grid)
    if grid not in ("half", "full") and (len(sizes) != 3 or min(sizes) < 2):
        raise ValueError(f"grid must be half, full or three sizes of 2 voxels or more, got {grid}")
    return grid if isinstance(grid, str) else list(grid)
