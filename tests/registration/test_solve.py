from dataclasses import replace

import pytest
import torch

from l2reg.models.zero import Zero
from l2reg.optimisation.convex import Convex
from l2reg.registration.solve import select_method
from l2reg.registration.start import Start

IDENTITY = Start(torch.eye(3, 4)[None])
CPU = torch.device("cpu")


@pytest.mark.parametrize("refine", [False, True])
def test_a_given_field_is_not_searched_again(refine: bool) -> None:
    field = replace(IDENTITY, disp=torch.zeros(1, 3, 8, 9, 10))
    from_map, from_field = (select_method("lung", CPU, s, refine=refine) for s in (IDENTITY, field))
    assert isinstance(from_map.model, Convex)
    assert isinstance(from_field.model, Zero)
    assert (from_map.refinement is not None) == (from_field.refinement is not None) == refine
