"""Names for the tensors that travel through l2reg.

Axis letters, the same in every signature, comment and error message:

    b        pair index inside a batch
    c        image channel or feature map
    m        feature map that a layer returns
    l        label channel of a one-hot segmentation
    i, j, k  array axes of the volume, in the order nibabel returns them
    n        landmark index

There is no x, y or z in this package: those letters mean the reversed axis order that
``torch.nn.functional.grid_sample`` expects, and only ``geometry/warp.py`` speaks it.
"""

from collections.abc import Mapping

from jaxtyping import Float, Int
from torch import Tensor

Image = Float[Tensor, "b c i j k"]
Maps = Float[Tensor, "b m i j k"]
OneHot = Float[Tensor, "b l i j k"]
LabelMap = Int[Tensor, "b 1 i j k"]
Mask = Float[Tensor, "b 1 i j k"]  # 1 inside, 0 outside
Field = Float[Tensor, "b 3 i j k"]
Points = Float[Tensor, "b n 3"]  # voxel positions along i, j, k
Affine = Float[Tensor, "b 3 4"]  # voxel positions to voxel positions
PerPair = Float[Tensor, " b"]
Scalar = Float[Tensor, ""]

Shape3 = tuple[int, int, int]
Spacing = tuple[float, float, float]  # mm per voxel along i, j, k

Batch = Mapping[str, Tensor]  # see data/batches.py for its names
