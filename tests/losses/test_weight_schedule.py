import math
from typing import Any

import numpy as np
import pytest

from l2reg.losses.weight_schedule import weight_schedule


def test_a_number_is_the_weight_of_every_step() -> None:
    assert {weight_schedule("dice", 0.3).at(step) for step in (0, 5, 10**6)} == {0.3}


def test_a_weight_goes_from_one_value_to_the_other_and_stays() -> None:
    node = {"from": 2, "to": 0.5, "steps": 8}
    steps = [0, 1, 4, 7, 8, 100]
    expected = np.interp(steps, [0, 8], [2, 0.5])
    assert [weight_schedule("dice", node).at(s) for s in steps] == pytest.approx(list(expected))
    cosine = weight_schedule("dice", {**node, "shape": "cosine"})
    angle = [math.cos(math.pi * min(s, 8) / 8) for s in steps]
    assert [cosine.at(s) for s in steps] == pytest.approx([1.25 + 0.75 * c for c in angle])


@pytest.mark.parametrize(
    "node",
    [-1.0, math.nan, "much", True, None, {"from": 0, "to": 1}, {"from": 0, "to": -1, "steps": 3},
     {"from": 0, "to": 1, "steps": 0}, {"from": 0, "to": 1, "steps": 1.5},
     {"from": 0, "to": 1, "steps": 3, "shape": "step"}, {"from": 0, "to": 1, "step": 3}],
)  # fmt: skip
def test_a_weight_that_is_none_is_refused_by_its_name(node: Any) -> None:
    with pytest.raises(ValueError, match="dice"):
        weight_schedule("dice", node)
