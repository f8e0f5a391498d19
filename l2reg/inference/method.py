"""Registration method: a model, and the refinement of its fields; it reads and writes no files."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from l2reg.batch import Batch
from l2reg.models.prediction import Prediction, grid_of
from l2reg.optimisation.refinement import Refinement
from l2reg.runtime import autocast
from l2reg.shapes import Field, WorkingGrid

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Method:
    """Registers pairs with a model, which it does not change, and a refinement.

    Attributes:
        model: The network, which maps a batch to a ``Prediction``; on ``device``.
        refinement: The test-time refinement of the model's field, or ``None``.
        device: The device that batches must be on.
        precision: ``float32``, ``tf32`` or ``bf16``; see ``runtime``.
    """

    model: torch.nn.Module
    refinement: Refinement | None = None
    device: torch.device = CPU
    precision: str = "float32"

    @property
    def grids(self) -> list[WorkingGrid]:
        """Working grids on which ``solve`` needs a pair: the model's, then the refinement's."""
        refined = [] if self.refinement is None else [self.refinement.grid]
        return [grid_of(self.model), *refined]

    def solve(self, batches: Sequence[Batch]) -> Field:
        """Return the field of a pair, in voxels of its own grid.

        That is the grid of the refinement, or without one that of the model. The initial affine map
        of the pair is not composed with the field.

        Args:
            batches: The pair on each of ``grids``, on ``device``.
        """
        disp = self.predict(batches[0]).disp
        return disp if self.refinement is None else self.refinement(batches[-1], disp)

    def predict(self, batch: Batch) -> Prediction:
        """Return the model's prediction in evaluation mode, without gradients."""
        was_training = self.model.training
        self.model.eval()
        with torch.no_grad(), autocast(self.device, self.precision):
            prediction: Prediction = self.model(batch)
        self.model.train(was_training)
        return prediction
