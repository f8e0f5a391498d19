"""The one place that touches global random state."""

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed every generator that a network may draw from; pairs and augmentation have their own."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002, TID251 - MONAI's layers may read the legacy generator
    torch.manual_seed(seed)


def rng_state() -> dict[str, Any]:
    """Return the torch generator states, for a checkpoint."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"torch": torch.get_rng_state(), "cuda": cuda}


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Restore what ``rng_state`` returned."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
