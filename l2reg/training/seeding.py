"""Global random state: the only module that seeds, reads or restores it."""

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from l2reg.problems import check_seed_value
from l2reg.training.distributed import rank


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


def seed_rank(seed: int) -> None:
    """Seed the global generators of this process otherwise than those of the other ranks."""
    seed_everything(int(np.random.SeedSequence((seed, rank())).generate_state(1)[0]))


def rng_state(device: torch.device) -> dict[str, Any]:
    """Return the states of all global generators of the CPU and of a device, for a checkpoint."""
    cuda = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    name, words, *rest = np.random.get_state()  # noqa: NPY002 - as in seed_everything
    return {
        "torch": torch.get_rng_state(),
        "cuda": cuda,
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.asarray(words).astype(np.int64)), *rest),
    }


def set_rng_state(state: Mapping[str, Any], device: torch.device) -> None:
    """Restore the generator states that ``rng_state`` returned.

    If the state of the device is not there, as when a run is moved from the CPU to a GPU or back, a
    line says that the run will differ.
    """
    torch.set_rng_state(state["torch"])
    if "numpy" in state:  # checkpoints of earlier builds have none
        random.setstate(state["python"])
        name, words, *rest = state["numpy"]
        np.random.set_state((name, words.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    states = state["cuda"]
    position = (device.index or 0) if len(states) > 1 else 0  # earlier builds: one for each GPU
    if device.type == "cuda" and position < len(states):
        torch.cuda.set_rng_state(states[position], device)
    elif device.type == "cuda" or len(states) == 1:
        tqdm.write(
            "the run goes on with other random numbers than if it had not been stopped: the "
            f"checkpoint has the states of {len(states)} GPUs, and this is {device}"
        )
