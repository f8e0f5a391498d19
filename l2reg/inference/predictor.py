"""One pair in, one field out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from l2reg.batch import Batch, to_device
from l2reg.data.pairs import Pair
from l2reg.data.reader import LoadedVolumes, PairReader
from l2reg.geometry.affine import affine_after_field, resize_affine
from l2reg.models.prediction import Prediction
from l2reg.optimisation.refinement import Refinement
from l2reg.runtime import autocast
from l2reg.shapes import Field


@dataclass(frozen=True)
class PairRefinement:
    """An optimisation of every pair's field.

    Attributes:
        refine: What optimises.
        reader: Reads pairs onto its grid.
        given: Returns what may be read of a pair.
    """

    refine: Refinement
    reader: PairReader
    given: Callable[[Pair], Pair] = Pair.images_only


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
        refinement: PairRefinement | None = None,
    ) -> None:
        self.model = model
        self.reader = reader
        self.device = device
        self.precision = precision
        self.refinement = refinement

    def warm_up(self) -> None:
        """Do once, with made-up images, what is slower the first time.

        On a CPU that is a network's forward pass; on a GPU, everything.
        """
        if self.device.type != "cpu":
            readers = [self.reader, *([self.refinement.reader] if self.refinement else [])]
            self.solve([to_device(noise_batch(reader), self.device) for reader in readers])
        elif any(True for _ in self.model.parameters()):
            self.predict(noise_batch(self.reader))

    def register(self, pair: Pair) -> Field:
        """Return the field of a pair, in voxels of the grid it is on, prealignment included.

        The grid is the working grid, or that of the refinement.
        """
        return self.solve(self.read(pair))

    def read(self, pair: Pair) -> list[Batch]:
        """Return a pair as the model sees it, and as the refinement does if there is one.

        Only images and masks are read, and labels that were given for the refinement.
        """
        opened = LoadedVolumes()
        pair = pair.images_only() if self.refinement is None else self.refinement.given(pair)
        batches = [to_device(self.reader.read(pair, opened), self.device)]
        if self.refinement is not None:
            reader = self.refinement.reader
            if reader.shape == self.reader.shape:
                batches.append(batches[0])
            else:
                matrix = batches[0]["prealign"].cpu()
                matrix = resize_affine(matrix, self.reader.shape, reader.shape)
                batches.append(to_device(reader.read(pair, opened, matrix), self.device))
        return batches

    def solve(self, batches: Sequence[Batch]) -> Field:
        """Return the field of what ``read`` returned."""
        batch = batches[-1]
        disp = self.predict(batches[0]).disp
        if self.refinement is not None:
            disp = self.refinement.refine(batch, disp)
        matrix = resize_affine(batch["prealign"], batch["fixed"].shape[2:], disp.shape[2:])
        return affine_after_field(matrix, disp)

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


def noise_batch(reader: PairReader) -> Batch:
    """Return a pair of noise on the grid of ``reader``: what models and refinements look at."""
    noise = torch.Generator().manual_seed(0)
    fixed, moving = (torch.rand(1, 1, *reader.shape, generator=noise) for _ in range(2))
    ones = torch.ones(1, 1, *reader.shape)
    return {
        "fixed": fixed,
        "moving": moving,
        "fixed_mask": ones,
        "moving_mask": ones,
        "spacing_mm": torch.tensor([reader.spacing_mm], dtype=torch.float32),
        "prealign": torch.eye(4)[None, :3],
    }
