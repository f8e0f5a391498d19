"""Data term of a refinement: how badly the feature maps of a pair match under a field."""

import torch.nn.functional as F

from l2reg.geometry.resize import resize_field
from l2reg.geometry.warp import warp
from l2reg.shapes import Maps, Mask, StartField


def data_term(maps: tuple[Maps, Maps], masks: tuple[Mask, Mask], disp: StartField) -> float:
    """Return the squared difference of the feature maps, summed over channels; 0 at best.

    It is the mean over the voxels that ``gauss_newton`` compares, by their weights: the fixed mask
    times the moving mask where the field samples it, 0 outside the moving volume. Where no voxel
    has a weight it is infinite.

    Args:
        maps: Feature maps of the fixed and of the moving scan, on the same grid.
        masks: Masks of both scans on that grid.
        disp: Field, in voxels of its own grid, which may be any.
    """
    i, j, k = masks[0].shape[2:]
    dense = resize_field(disp, (i, j, k))
    weight = masks[0] * warp(masks[1], dense, padding="zeros")
    total = float(weight.sum())
    if total == 0:
        return float("inf")
    squares = F.mse_loss(warp(maps[1], dense), maps[0], reduction="none").sum(dim=1, keepdim=True)
    return float((weight * squares).sum()) / total
