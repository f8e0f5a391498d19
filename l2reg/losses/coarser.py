"""A batch on a coarser grid, for the fields that a network's coarser levels arrived at."""

from l2reg.geometry.resize import resize_image, resize_labels, resize_points, voxel_ratio
from l2reg.shapes import Batch, Shape3


def coarser(batch: Batch, shape: Shape3) -> Batch:
    """Return what loss terms look at, on a grid of ``shape`` with the same corners.

    Images are smoothed and sampled, masks and labels take the nearest voxel, points and the
    spacing change their unit. Everything else stays as it is.
    """
    i, j, k = batch["fixed"].shape[2:]
    ratio = batch["spacing_mm"].new_tensor(voxel_ratio((i, j, k), shape))
    result = {**batch, "spacing_mm": batch["spacing_mm"] / ratio}
    for side in ("fixed", "moving"):
        result[side] = resize_image(batch[side], shape)
        result[f"{side}_mask"] = resize_labels(batch[f"{side}_mask"].int(), shape).float()
        result[f"{side}_labels"] = resize_labels(batch[f"{side}_labels"], shape)
        result[f"{side}_points"] = resize_points(batch[f"{side}_points"], (i, j, k), shape)
    return result
