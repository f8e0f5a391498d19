from collections.abc import Callable

import torch

from l2reg.losses.keypoints import Keypoints, point_distance
from l2reg.losses.objective import Aligned

SHAPE = (8, 9, 10)
SPACING = torch.tensor([[2.0, 1.0, 5.0]])


def test_distances_are_squared_centimetres_on_an_anisotropic_grid() -> None:
    fixed = torch.tensor([[[2.0, 3.0, 4.0]]])
    moving = fixed + torch.tensor([5.0, 0.0, 2.0])  # 10 mm and 10 mm away
    still = torch.zeros(1, 3, *SHAPE)
    distance = point_distance(still, fixed, moving, SPACING, torch.ones(1, 1))
    torch.testing.assert_close(distance, torch.tensor([2.0]))


def test_the_right_field_costs_nothing_and_the_opposite_four_times_as_much() -> None:
    fixed = torch.tensor([[[2.0, 3.0, 4.0], [5.0, 5.0, 5.0]]])
    step = torch.tensor([1.0, -1.0, 2.0])
    field = step.view(1, 3, 1, 1, 1).expand(1, 3, *SHAPE)
    moving = fixed + step

    def cost(sign: float) -> float:
        return float(point_distance(sign * field, fixed, moving, SPACING, torch.ones(1, 2)))

    assert cost(1.0) < 1e-10
    assert abs(cost(-1.0) - 4 * cost(0.0)) < 1e-5


def test_points_of_weight_0_do_not_count_and_their_position_does_not_matter() -> None:
    fixed = torch.tensor([[[2.0, 3.0, 4.0], [500.0, 0.0, 0.0]]])
    moving = fixed + torch.tensor([5.0, 0.0, 0.0])
    still = torch.zeros(1, 3, *SHAPE)
    weighted = point_distance(still, fixed, moving, SPACING, torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(weighted, torch.tensor([1.0]))
    assert point_distance(still, fixed, moving, SPACING, torch.zeros(1, 2)) == 0


def test_pairs_without_points_count_with_0_and_backpropagate(
    aligned: Callable[..., Aligned],
) -> None:
    image = torch.zeros(1, 1, *SHAPE)
    disp = torch.zeros(1, 3, *SHAPE, requires_grad=True)
    none = torch.zeros(1, 0, 3)
    still = aligned(image, image, disp, fixed_points=none, moving_points=none,
                   point_weights=torch.zeros(1, 0))  # fmt: skip
    loss = Keypoints()(still)
    loss.sum().backward()
    assert loss.tolist() == [0.0]
    assert disp.grad is not None
    assert (disp.grad == 0).all()


def test_the_gradient_moves_the_field_towards_the_point() -> None:
    disp = torch.zeros(1, 3, *SHAPE, requires_grad=True)
    fixed = torch.tensor([[[2.0, 3.0, 4.0]]])
    moving = fixed + torch.tensor([0.0, 2.0, 0.0])
    point_distance(disp, fixed, moving, SPACING, torch.ones(1, 1)).sum().backward()
    assert disp.grad is not None
    assert disp.grad[0, 1, 2, 3, 4] < 0
    assert (disp.grad[0, [0, 2]] == 0).all()
