from collections.abc import Callable

import pytest
import torch

from l2reg.geometry.warp import warp
from l2reg.losses.objective import Aligned, overlap_mask
from l2reg.models.prediction import Prediction


@pytest.fixture
def aligned() -> Callable[..., Aligned]:
    """Make the input of a loss term from images and a field; masks are full by default."""

    def make(
        fixed: torch.Tensor, moving: torch.Tensor, disp: torch.Tensor | None = None,
        **batch: torch.Tensor,
    ) -> Aligned:  # fmt: skip
        pairs = len(fixed)
        disp = torch.zeros(pairs, 3, *fixed.shape[2:]) if disp is None else disp
        whole = {
            "fixed": fixed,
            "moving": moving,
            "fixed_mask": torch.ones_like(fixed),
            "moving_mask": torch.ones_like(moving),
            "spacing_mm": torch.tensor([[1.0, 1.0, 1.0]]).expand(pairs, 3),
            **batch,
        }
        return Aligned(Prediction(disp), warp(moving, disp), overlap_mask(disp, whole), whole)

    return make
