"""One pair of files in, one field out."""

from collections.abc import Callable, Sequence

import torch

from l2reg.batch import Batch, to_device
from l2reg.data.pairs import Pair
from l2reg.data.reader import LoadedVolumes, PairReader
from l2reg.geometry.affine import affine_after_field, resize_affine
from l2reg.inference.method import Method
from l2reg.models.prediction import Prediction
from l2reg.shapes import Field, WorkingGrid


class Predictor:
    """Registers pairs of files with a method, and composes their prealignment with the field.

    Args:
        method: Model and refinement.
        reader: Returns the reader of pairs onto a working grid, such as ``Dataset.reader``.
        allowed_inputs: Returns a pair with the files that a refinement by labels may read; other
            methods read images and masks alone.

    Attributes:
        reader: Reads pairs onto the model's grid.
    """

    def __init__(
        self,
        method: Method,
        reader: Callable[[WorkingGrid], PairReader],
        allowed_inputs: Callable[[Pair], Pair] = Pair.images_only,
    ) -> None:
        self.method = method
        self.readers = [reader(grid) for grid in method.grids]
        reads_labels = method.refinement is not None and method.refinement.label_weight > 0
        self.allowed_inputs = allowed_inputs if reads_labels else Pair.images_only

    @property
    def reader(self) -> PairReader:
        """Reader of pairs onto the model's grid."""
        return self.readers[0]

    @property
    def device(self) -> torch.device:
        """Where the method computes."""
        return self.method.device

    def warm_up(self) -> None:
        """Do once, with images of noise, what is slower the first time.

        On a CPU that is a network's forward pass; on a GPU, everything.
        """
        if self.device.type != "cpu":
            self.solve([to_device(noise_batch(reader), self.device) for reader in self.readers])
        elif any(True for _ in self.method.model.parameters()):
            self.predict(noise_batch(self.reader))

    def register(self, pair: Pair) -> Field:
        """Return the field of a pair, in voxels of the grid it is on, prealignment included.

        The grid is the model's working grid, or that of the refinement.
        """
        return self.solve(self.read(pair))

    def read(self, pair: Pair) -> list[Batch]:
        """Return a pair as the model needs it, and as the refinement does if there is one.

        Only images and masks are read, and labels that a refinement is allowed to read.
        """
        loaded = LoadedVolumes()
        pair = self.allowed_inputs(pair)
        batches = [to_device(self.reader.read(pair, loaded), self.device)]
        for reader in self.readers[1:]:
            if reader.shape == self.reader.shape:
                batches.append(batches[0])
            else:
                matrix = batches[0]["prealign"].cpu()
                matrix = resize_affine(matrix, self.reader.shape, reader.shape)
                batches.append(to_device(reader.read(pair, loaded, matrix), self.device))
        return batches

    def solve(self, batches: Sequence[Batch]) -> Field:
        """Return the field of what ``read`` returned, prealignment included."""
        disp = self.method.solve(batches)
        batch = batches[-1]
        matrix = resize_affine(batch["prealign"], batch["fixed"].shape[2:], disp.shape[2:])
        return affine_after_field(matrix, disp)

    def batch(self, pair: Pair) -> Batch:
        """Return a pair on the model's grid, with all its files."""
        return to_device(self.reader.read(pair), self.device)

    def predict(self, batch: Batch) -> Prediction:
        """Return the model's prediction in evaluation mode, without gradients."""
        return self.method.predict(batch)


def noise_batch(reader: PairReader) -> Batch:
    """Return a pair of noise on the grid of ``reader``, as models and refinements need it."""
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
