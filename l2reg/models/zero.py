"""The field that moves nothing: the challenge's exemplary submission."""

from collections.abc import Sequence

import torch
from torch import nn

from l2reg.data.reader import Grid
from l2reg.models.prediction import Prediction
from l2reg.shapes import Batch


class Zero(nn.Module):
    """Returns zeros, whatever it sees.

    Args:
        grid: Working grid.
    """

    def __init__(self, grid: Grid | Sequence[int]) -> None:
        super().__init__()
        self.grid = grid if isinstance(grid, str) else list(grid)

    def forward(self, batch: Batch) -> Prediction:
        """Return a zero field on the working grid."""
        fixed = batch["fixed"]
        return Prediction(torch.zeros_like(fixed).expand(-1, 3, -1, -1, -1))
