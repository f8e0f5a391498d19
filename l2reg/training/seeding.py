"""Global random state: the only module that seeds, reads or restores it."""

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from l2reg.problems import check_seed_value


def seed_everything(seed: int) -> None:
    """Seed every global generator that a network may draw from.

    Sampling of pairs and augmentation have generators of their own.

    Raises:
        InputError: If the seed is not an integer from 0 to 2^32 - 1.
    """
    check_seed_value("seed", seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002, TID251 - MONAI's layers may read the legacy generator
    torch.manual_seed(seed)


def rng_state() -> dict[str, Any]:
    """Return the states of all global generators, for a checkpoint."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    name, words, *rest = np.random.get_state()  # noqa: NPY002 - as in seed_everything
    return {
        "torch": torch.get_rng_state(),
        "cuda": cuda,
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.asarray(words).astype(np.int64)), *rest),
    }


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Restore the generator states that ``rng_state`` returned."""
    torch.set_rng_state(state["torch"])
    if "numpy" in state:  # checkpoints of earlier builds have none
        random.setstate(state["python"])
        name, words, *rest = state["numpy"]
        np.random.set_state((name, words.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
