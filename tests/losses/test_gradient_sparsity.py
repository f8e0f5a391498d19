from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from l2reg.losses.gradient_sparsity import GradientSparsity
from l2reg.losses.objective import Aligned
from l2reg.models.prediction import Prediction
from l2reg.problems import InputError

SHAPE = (5, 6, 7)


def test_no_motion_is_free_and_a_stretch_costs_its_size(aligned: Callable[..., Aligned]) -> None:
    still = aligned(torch.zeros(2, 1, *SHAPE), torch.zeros(2, 1, *SHAPE))
    gradient = torch.full((2, 3, *SHAPE), 0.5)
    gradient[1, 0] = 0.8
    prediction = Prediction(still.prediction.disp, gradient=gradient)
    cost = GradientSparsity()(replace(still, prediction=prediction))
    torch.testing.assert_close(cost, torch.tensor([0.0, 0.1]))


def test_a_network_without_gradients_is_refused(aligned: Callable[..., Aligned]) -> None:
    still = aligned(torch.zeros(1, 1, *SHAPE), torch.zeros(1, 1, *SHAPE))
    with pytest.raises(InputError, match=r"model\.head=gradient"):
        GradientSparsity()(still)
