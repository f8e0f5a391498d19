"""Zero field: a model that moves nothing, like the challenge's exemplary submission."""

import torch
from torch import nn

from l2reg.batch import Batch
from l2reg.models.prediction import Prediction
from l2reg.shapes import WorkingGrid, as_working_grid


class Zero(nn.Module):
    """Returns a field of zeros for every pair; there is nothing to train.

    Args:
        grid: Working grid.
    """

    def __init__(self, grid: WorkingGrid) -> None:
        super().__init__()
        self.grid = as_working_grid(grid)

    def forward(self, batch: Batch) -> Prediction:
        """Return a zero field on the working grid."""
        fixed = batch["fixed"][:, :1]
        return Prediction(torch.zeros_like(fixed).expand(-1, 3, -1, -1, -1))
