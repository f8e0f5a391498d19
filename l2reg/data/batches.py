"""Training batches, addressed by training step."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from l2reg.batch import Batch, collate, to_device
from l2reg.data.augment import Augment
from l2reg.data.crop import random_crop
from l2reg.data.pairs import Pair


class Batches:
    """Training batches: ``batches[step]`` is a pure function of ``(seed, step)``.

    Args:
        draw: Function that returns the pair of ``(step, item)``, such as ``RandomPairs.draw``.
        read: Function that reads a pair as a batch of one, such as ``PairReader.read``.
        augment: Random transform of a sample, or ``None``.
        crop: Size of the box that is cropped after that, see ``random_crop``; ``None`` for none.
        items: Numbers of the pairs of a step that a batch holds; other ranks have others.
        n_points: Largest number of keypoints of a pair; a random subset is kept of more.
        seed: Seed of the run.
        device: Device on which samples are augmented and batches are returned.
    """

    def __init__(
        self,
        draw: Callable[[int, int], Pair],
        read: Callable[[Pair], Batch],
        augment: Augment | None,
        *,
        crop: Sequence[int] | None,
        items: range,
        n_points: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self.draw = draw
        self.read = read
        self.augment = augment
        self.crop = crop
        self.items = items
        self.n_points = n_points
        self.seed = seed
        self.device = device

    def __getitem__(self, step: int) -> Batch:
        """Return the batch of ``step``."""
        return collate([self._sample(step, item) for item in self.items])

    def _sample(self, step: int, item: int) -> Batch:
        rng = np.random.default_rng((self.seed, step, item, 1))  # draw uses (seed, step, item)
        sample = self.read(self.draw(step, item))
        n_available = sample["fixed_points"].shape[1]
        if n_available > self.n_points:
            kept = torch.from_numpy(rng.choice(n_available, self.n_points, replace=False))
            sample = {
                **sample,
                "fixed_points": sample["fixed_points"][:, kept],
                "moving_points": sample["moving_points"][:, kept],
                "point_weights": sample["point_weights"][:, kept],
            }
        sample = to_device(sample, self.device, pinned=True)
        if self.augment:
            sample = self.augment(sample, rng)
        return sample if self.crop is None else random_crop(sample, self.crop, rng)
