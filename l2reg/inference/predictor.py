"""One pair in, one field out."""

from dataclasses import dataclass

import torch
from torch import nn

from l2reg.data.batches import to_device
from l2reg.data.cases import Pair
from l2reg.data.reader import PairReader
from l2reg.geometry.affine import affine_after_field, resize_affine
from l2reg.inference.device import autocast
from l2reg.models.prediction import Prediction
from l2reg.optimise.refine import Refine
from l2reg.shapes import Batch, Field


@dataclass(frozen=True)
class Refinement:
    """An optimisation of every pair's field, and what reads pairs onto its grid."""

    refine: Refine
    reader: PairReader


class Predictor:
    """Registers pairs with a model, which it leaves as it was.

    Args:
        model: See ``models.prediction.Model``.
        reader: Reads pairs onto the model's working grid.
        device: Where the model is.
        precision: ``bf16`` runs the network's convolutions in bfloat16.
        refinement: What makes the model's field better, if anything does.
    """

    def __init__(
        self,
        model: nn.Module,
        reader: PairReader,
        device: torch.device,
        precision: str,
        refinement: Refinement | None = None,
    ) -> None:
        self.model = model
        self.reader = reader
        self.device = device
        self.precision = precision
        self.refinement = refinement

    def warm_up(self) -> None:
        """Run a network once on an empty pair: its first call is slower than the others."""
        if not any(True for _ in self.model.parameters()):
            return
        blank = torch.zeros(1, 1, *self.reader.shape, device=self.device)
        self.predict({"fixed": blank, "moving": blank, "fixed_mask": blank, "moving_mask": blank})

    def register(self, pair: Pair) -> Field:
        """Return the field of a pair, in voxels of the grid it is on, prealignment included.

        The grid is the working grid, or that of the refinement.
        """
        batch = self.batch(pair)
        disp = self.predict(batch).disp
        if self.refinement is not None:
            reader = self.refinement.reader
            if reader.shape != self.reader.shape:
                matrix = resize_affine(batch["prealign"].cpu(), self.reader.shape, reader.shape)
                batch = to_device(reader.read(pair, matrix), self.device)
            disp = self.refinement.refine(batch, disp)
            own = resize_affine(batch["prealign"], reader.shape, disp.shape[2:])
            return affine_after_field(own, disp)
        return affine_after_field(batch["prealign"], disp)

    def batch(self, pair: Pair) -> Batch:
        """Return a pair as the model sees it."""
        return to_device(self.reader.read(pair), self.device)

    def predict(self, batch: Batch) -> Prediction:
        """Return the model's prediction in evaluation mode, without gradients."""
        was_training = self.model.training
        self.model.eval()
        with torch.no_grad(), autocast(self.device, self.precision):
            prediction: Prediction = self.model(batch)
        self.model.train(was_training)
        return prediction
