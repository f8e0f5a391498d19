"""Cost of a training step: its time and memory, taken for real and thrown away."""

import time
from dataclasses import dataclass
from itertools import chain
from typing import cast

import torch
from torch import Tensor

from l2reg.training.memory import MemoryPeak, memory_error
from l2reg.training.trainer import Trainer


@dataclass(frozen=True)
class StepCost:
    """Cost of a training step.

    Attributes:
        seconds: Time of the step itself, after a first one, which takes longer.
        reading_seconds: Time to read and augment a batch; a step overlaps with it.
        memory_bytes: Largest memory of the tensors: on a GPU as its allocator says, on a CPU that
            of batch, weights, optimiser, activations and gradients.
        n_parameters: Number of weights of the network.
    """

    seconds: float
    reading_seconds: float
    memory_bytes: int
    n_parameters: int


def measure_step(trainer: Trainer) -> StepCost:
    """Return the cost of a step of a trainer, whose weights change by it.

    Raises:
        InputError: If the memory of the device is too small.
    """
    begin = time.perf_counter()
    batch = trainer.batches[trainer.step]
    read_at = time.perf_counter()
    with memory_error(trainer.step, trainer.settings, getattr(trainer.model, "grid", "half")):
        trainer.train_step(batch)
        start = time.perf_counter()
        if trainer.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(trainer.device)
        trainer.train_step(batch)  # ends with values on the host: the device has finished
        seconds = time.perf_counter() - start
        if trainer.device.type == "cuda":
            memory_bytes = torch.cuda.max_memory_allocated(trainer.device)
        else:
            states = trainer.optimizer.state.values()
            moments = [v for state in states for v in state.values() if isinstance(v, Tensor)]
            tensors = chain(cast(dict[str, Tensor], batch).values(), moments)
            weights = chain(trainer.model.parameters(), trainer.model.buffers())
            kept = sum(tensor.nbytes for tensor in chain(tensors, weights))
            with MemoryPeak() as memory:
                trainer.train_step(batch)
            memory_bytes = kept + memory.peak
    n_parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
    return StepCost(seconds, read_at - begin, memory_bytes, n_parameters)
