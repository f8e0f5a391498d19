"""Distributed training: equal processes, started by torchrun, that train one network together.

Every process (rank) has a part of each batch, and all average their gradients, so that N ranks of B
pairs take the steps of one process of N * B pairs. Without torchrun there is one process, and
nothing here does anything.
"""

import os
from collections.abc import Iterable, Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from l2reg.runtime import select_device

T = TypeVar("T")


def start_processes(device_name: str) -> torch.device:
    """Join the processes that torchrun started, if it did; return the device of this one.

    With GPUs, ``auto`` and ``cuda`` are the GPU that has the number of the process on its machine.

    Args:
        device_name: See ``select_device``.

    Raises:
        InputError: If there is no such device.
    """
    if not dist.is_torchelastic_launched():
        return select_device(device_name)
    if device_name in ("auto", "cuda") and torch.cuda.is_available():
        device_name = f"cuda:{os.environ['LOCAL_RANK']}"
    device = select_device(device_name)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    return device


def stop_processes() -> None:
    """Leave the processes that ``start_processes`` joined."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def n_ranks() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first() -> bool:
    """Return whether this process writes the files of the run."""
    return rank() == 0


def wait_for_all() -> None:
    """Wait until every process is here."""
    if n_ranks() > 1:
        dist.barrier()


def average(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its mean over all processes; they are sent as one."""
    tensors = list(tensors)
    if n_ranks() == 1 or not tensors:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    flat /= n_ranks()
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view_as(tensor))


def any_rank(value: bool) -> bool:
    """Return whether ``value`` is true in any process."""
    if n_ranks() == 1:
        return value
    count = torch.tensor(int(value))
    dist.all_reduce(count)
    return bool(count)


def share(items: Sequence[T]) -> Sequence[T]:
    """Return the items of this process: every N-th of N processes."""
    return items[rank() :: n_ranks()]


def gather(items: Sequence[T]) -> list[T]:
    """Return the items of all processes, in the order before ``share``."""
    if n_ranks() == 1:
        return list(items)
    parts: list[Sequence[T]] = [[]] * n_ranks()
    dist.all_gather_object(parts, items)
    longest = max(map(len, parts))
    return [part[n] for n in range(longest) for part in parts if n < len(part)]
