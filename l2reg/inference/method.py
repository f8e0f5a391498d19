"""What registers the pairs of one task, put together from its config before any data is opened."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from l2reg.checkpoints.trained_model import TrainedModel
from l2reg.data.pairs import Pair
from l2reg.data.reader import PairReader
from l2reg.inference.predictor import PairRefinement, Predictor
from l2reg.models.prediction import grid_of
from l2reg.optimisation.refinement import Refinement
from l2reg.shapes import WorkingGrid


@dataclass(frozen=True)
class Method:
    """A model and what refines its fields.

    Attributes:
        config: Nodes of the task, the model and the data: a checkpoint's, or those given.
        model: On its device.
        refine: What makes the model's field better, if anything does.
        device: Where to compute.
        precision: Of the network.
        rebuilt: The checkpoint, if the model was trained.
    """

    config: Mapping[str, Any]
    model: torch.nn.Module
    refine: Refinement | None
    device: torch.device
    precision: str
    rebuilt: TrainedModel | None

    def predictor(
        self,
        reader: Callable[[WorkingGrid], PairReader],
        given: Callable[[Pair], Pair] = Pair.images_only,
    ) -> Predictor:
        """Return what registers pairs.

        Args:
            reader: Returns what puts a pair on a grid.
            given: Returns what a refinement that compares labels may read of a pair.
        """
        refinement = None
        if self.refine is not None:
            seen = given if self.refine.labels > 0 else Pair.images_only
            refinement = PairRefinement(self.refine, reader(self.refine.grid), seen)
        working = reader(grid_of(self.model))
        return Predictor(self.model, working, self.device, self.precision, refinement)
