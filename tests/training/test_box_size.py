"""Boxes of training pairs that are smaller than what network or loss look at are refused."""

from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

from l2reg.losses.local_ncc import LocalNCC
from l2reg.losses.mind import MIND
from l2reg.losses.mse import MSE
from l2reg.losses.objective import Objective
from l2reg.problems import InputError
from l2reg.training.box_size import box_problems
from l2reg.training.run_options import check_options


class Network(nn.Module):
    def __init__(self, min_size: object) -> None:
        super().__init__()
        self.min_size = min_size


def loss(*terms: nn.Module) -> nn.Module:
    return Objective(
        {str(n): term for n, term in enumerate(terms)},
        {str(n): 1.0 for n in range(len(terms))},
    )


@pytest.mark.parametrize(
    ("network", "terms", "least"),
    [
        (Network(8), [MSE()], 8),
        (Network(4), [LocalNCC([3, 9, 5])], 9),
        (Network(4), [LocalNCC(5), MIND(radius=1, dilation=2)], 7),
        (nn.Identity(), [MSE()], 2),  # a network of one's own that says nothing
        (Network((4, 4, 4)), [MSE()], 2),  # or means something else
    ],
)
def test_every_axis_of_a_box_holds_what_network_and_loss_look_at(
    network: nn.Module, terms: list[nn.Module], least: int
) -> None:
    objective = loss(*terms)
    assert box_problems([least, least + 4, least], network, objective) == []
    for axis in range(3):
        box = [least + 4] * 3
        box[axis] = least - 1
        (problem,) = box_problems(box, network, objective)
        assert problem.expected.startswith(f"{least} voxels or more along each axis")
        assert problem.found == str(least - 1)
        mended = [least if n == axis else least + 4 for n in range(3)]
        assert f"data.crop=[{','.join(map(str, mended))}]" in problem.remedy
        assert box_problems(mended, network, objective) == []


def test_a_term_of_weight_0_asks_for_nothing() -> None:
    objective = Objective({"far": LocalNCC(21), "near": MSE()}, {"far": 0.0, "near": 1.0})
    assert box_problems([3, 3, 3], Network(2), objective) == []


@pytest.mark.parametrize("box", [None, "abc", 3, [], ["a", "b", "c"]])
def test_whole_scans_and_what_is_no_box_are_not_too_small(box: object) -> None:
    assert box_problems(box, Network(8), loss(MSE())) == []


def test_a_run_on_boxes_that_are_too_small_ends_before_its_data_are_looked_at(
    tiny_run: Callable[..., dict[str, Any]],
) -> None:
    with pytest.raises(InputError, match=r"data.crop=\[2, 2, 2\]: is too small to learn from"):
        check_options(tiny_run("data.crop=[2,2,2]", "data.root=nowhere"))
    check_options(tiny_run("data.crop=[8,8,7]", "data.root=nowhere"))
