"""Predictor: read the files of a pair, register it with a method, return its field."""

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
        method: The model and the refinement.
        reader: Function that returns the reader of pairs for a working grid, such as
            ``Dataset.reader``.
        allowed_inputs: Function that returns a pair with only the files that a refinement with a
            label term may read; other methods read only images and masks.
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
        """The reader of pairs on the model's working grid."""
        return self.readers[0]

    @property
    def device(self) -> torch.device:
        """The device that the method runs on."""
        return self.method.device

    def warm_up(self) -> None:
        """Run the method once on images of noise, so that the first pair is not slower.

        On a GPU the whole method is run; on a CPU only the forward pass of a network.
        """
        if self.device.type != "cpu":
            self.solve([to_device(noise_batch(reader), self.device) for reader in self.readers])
        elif any(True for _ in self.method.model.parameters()):
            self.predict(noise_batch(self.reader))

    def register(self, pair: Pair) -> Field:
        """Return the field of a pair, prealignment included, in voxels of its own grid.

        That is the grid of the refinement, or without one the model's working grid.
        """
        return self.solve(self.read(pair))

    def read(self, pair: Pair) -> list[Batch]:
        """Return a pair on the grid of the model, then on that of the refinement if there is one.

        Images and masks are read, and the labels that ``allowed_inputs`` leaves.
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
        """Return the field of the batches that ``read`` returns, prealignment included."""
        disp = self.method.solve(batches)
        batch = batches[-1]
        matrix = resize_affine(batch["prealign"], batch["fixed"].shape[2:], disp.shape[2:])
        return affine_after_field(matrix, disp)

    def batch(self, pair: Pair) -> Batch:
        """Return a pair on the model's grid, with its labels and points."""
        return to_device(self.reader.read(pair), self.device)

    def predict(self, batch: Batch) -> Prediction:
        """Return the model's prediction in evaluation mode, without gradients."""
        return self.method.predict(batch)


def noise_batch(reader: PairReader) -> Batch:
    """Return a pair of noise on the grid of ``reader``, with all inputs of a method."""
    noise = torch.Generator().manual_seed(0)
    shape = (1, reader.n_channels, *reader.shape)
    fixed, moving = (torch.rand(shape, generator=noise) for _ in range(2))
    ones = torch.ones(1, 1, *reader.shape)
    return {
        "fixed": fixed,
        "moving": moving,
        "fixed_mask": ones,
        "moving_mask": ones,
        "spacing_mm": torch.tensor([reader.spacing_mm], dtype=torch.float32),
        "prealign": torch.eye(4)[None, :3],
    }
