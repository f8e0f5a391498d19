"""Batches addressed by training step."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from l2reg.data.augment import Augment
from l2reg.data.cases import Pair
from l2reg.shapes import Batch


class Batches:
    """Answers ``batches[step]``; a pure function of ``(seed, step)``.

    Args:
        draw: Pair of ``(step, item)``, such as ``RandomPairs.draw``.
        read: A pair as a batch of one, such as ``PairReader.read``, which also lists the names.
        augment: Random transform of a sample, or ``None``.
        batch_size: Pairs in a batch.
        n_points: Keypoints kept of a pair that has more.
        seed: Of the whole run.
        device: Where samples are augmented and batches end up.
    """

    def __init__(
        self,
        draw: Callable[[int, int], Pair],
        read: Callable[[Pair], dict[str, Tensor]],
        augment: Augment | None,
        *,
        batch_size: int,
        n_points: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self.draw = draw
        self.read = read
        self.augment = augment
        self.batch_size = batch_size
        self.n_points = n_points
        self.seed = seed
        self.device = device

    def __getitem__(self, step: int) -> Batch:
        """Return the batch of ``step``."""
        return collate([self._sample(step, item) for item in range(self.batch_size)])

    def _sample(self, step: int, item: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.seed, step, item, 1))  # draw() uses (seed, step, item)
        sample = self.read(self.draw(step, item))
        n_found = sample["fixed_points"].shape[1]
        if n_found > self.n_points:
            kept = torch.from_numpy(rng.choice(n_found, self.n_points, replace=False))
            for name in ("fixed_points", "moving_points", "point_weights"):
                sample[name] = sample[name][:, kept]
        sample = {name: tensor.to(self.device) for name, tensor in sample.items()}
        return self.augment(sample, rng) if self.augment else sample


def collate(samples: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Join samples along the pair axis; rows of missing points get the weight 0."""
    most = max(sample["fixed_points"].shape[1] for sample in samples)
    return {
        name: torch.cat([_with_rows(name, sample[name], most) for sample in samples])
        for name in samples[0]
    }


def both_directions(batch: Batch) -> Batch:
    """Return a batch of twice as many pairs: those of ``batch``, then the same the other way round.

    ``opposite``, ``(2 b,)``, is the place of each pair's opposite. The prealignment belongs to one
    direction and is left out.
    """
    other = {"fixed": "moving", "moving": "fixed"}
    joined = {}
    for name, tensor in batch.items():
        side, _, rest = name.partition("_")
        swapped = f"{other.get(side, side)}_{rest}" if rest else other.get(side, side)
        joined[name] = torch.cat([tensor, batch[swapped]])
    joined.pop("prealign", None)
    n_pairs = len(batch["fixed"])
    places = torch.arange(2 * n_pairs, device=batch["fixed"].device)
    return {**joined, "opposite": places.roll(n_pairs)}


def _with_rows(name: str, tensor: Tensor, rows: int) -> Tensor:
    if name in ("fixed_points", "moving_points"):
        return F.pad(tensor, (0, 0, 0, rows - tensor.shape[1]))
    if name == "point_weights":
        return F.pad(tensor, (0, rows - tensor.shape[1]))
    return tensor


def to_device(batch: Mapping[str, Tensor], device: torch.device) -> Batch:
    """Return ``batch`` on ``device``."""
    return {name: tensor.to(device) for name, tensor in batch.items()}
