"""Keypoint loss: the target registration error, the distance of corresponding points."""

from jaxtyping import Float
from torch import Tensor, nn

from l2reg.geometry.warp import sample_at_points
from l2reg.losses.objective import Aligned
from l2reg.shapes import Field, PerPair, Points


def point_distance(
    disp: Field,
    fixed_points: Points,
    moving_points: Points,
    spacing_mm: Float[Tensor, "b 3"],
    weights: Float[Tensor, "b n"],
) -> PerPair:
    """Return the mean squared distance of moved and true points, in square centimetres.

    In this unit errors of about 10 mm have squares of order 1, like the values of other terms.

    Args:
        disp: Field in voxels.
        fixed_points: Positions in the fixed scan, in voxels.
        moving_points: True positions of the same points in the moving scan, in voxels.
        spacing_mm: Voxel size of the grid.
        weights: 1 for a point, 0 for a row that only fills up the tensor.

    Returns:
        One value per pair; 0 for a pair without points.
    """
    if fixed_points.shape[1] == 0:
        return disp.sum(dim=(1, 2, 3, 4)) * 0
    moved = fixed_points + sample_at_points(disp, fixed_points)
    square_cm = ((moved - moving_points) * spacing_mm[:, None] / 10).square().sum(dim=2)
    return (square_cm * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


class Keypoints(nn.Module):
    """``point_distance`` of the pairs that have keypoints; 0 for the others."""

    def forward(self, aligned: Aligned) -> PerPair:
        """Compare the moved fixed keypoints with the moving ones."""
        batch = aligned.batch
        return point_distance(
            aligned.prediction.disp,
            batch["fixed_points"],
            batch["moving_points"],
            batch["spacing_mm"],
            batch["point_weights"],
        )
