"""Distance of corresponding points: the target registration error as a loss."""

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

    Args:
        disp: Field in voxels.
        fixed_points: Voxels of the fixed grid.
        moving_points: Where they are in the moving grid.
        spacing_mm: Voxel size of the grid.
        weights: 1 for a point that counts, 0 for one that is not there.

    Returns:
        0 for a pair without points. Square centimetres, because squares of some 10 mm are of order
        1 then, as the other terms are.
    """
    if fixed_points.shape[1] == 0:
        return disp.sum(dim=(1, 2, 3, 4)) * 0
    moved = fixed_points + sample_at_points(disp, fixed_points)
    square_cm = ((moved - moving_points) * spacing_mm[:, None] / 10).square().sum(dim=2)
    return (square_cm * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


class Keypoints(nn.Module):
    """``point_distance`` of the pairs that have keypoints, 0 for the others."""

    def forward(self, aligned: Aligned) -> PerPair:
        """Compare points."""
        batch = aligned.batch
        return point_distance(
            aligned.prediction.disp,
            batch["fixed_points"],
            batch["moving_points"],
            batch["spacing_mm"],
            batch["point_weights"],
        )
