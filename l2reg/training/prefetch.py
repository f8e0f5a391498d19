"""Prefetch: read the next training batches in threads while the device computes."""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from l2reg.batch import Batch

_GPU_READERS = 4


@runtime_checkable
class Batches(Protocol):
    """Training data indexed by step."""

    def __getitem__(self, step: int) -> Batch:
        """Return the batch of ``step`` on the device; the same step always gives the same batch.

        It is called from several threads.
        """
        ...


def prefetch(batches: Batches, steps: Iterable[int], device: torch.device) -> Iterator[Batch]:
    """Yield the batches of ``steps`` in their order, and read later ones meanwhile.

    On a CPU, which the network needs itself, one thread reads one batch ahead. For a GPU several
    threads do, whose copies and augmentation run on a stream of their own beside the network.

    Args:
        batches: Training data.
        steps: Steps to read.
        device: Device of the batches.
    """
    gpu = device.type == "cuda"
    n_readers = min(_GPU_READERS, os.cpu_count() or 1) if gpu else 1
    read = _StreamReader(batches, device).read if gpu else batches.__getitem__
    remaining = iter(steps)
    with ThreadPoolExecutor(n_readers) as executor:
        ahead: deque[Future[Batch]] = deque()
        try:
            for step in remaining:
                ahead.append(executor.submit(read, step))
                if len(ahead) > n_readers:
                    yield _on_current_stream(ahead.popleft().result(), gpu=gpu)
            while ahead:
                yield _on_current_stream(ahead.popleft().result(), gpu=gpu)
        finally:
            for future in ahead:
                future.cancel()


class _StreamReader:
    """Reads batches on a stream of their own, and waits until they are there."""

    def __init__(self, batches: Batches, device: torch.device) -> None:
        self.batches = batches
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def read(self, step: int) -> Batch:
        with torch.cuda.stream(self.stream):
            batch = self.batches[step]
            self.stream.record_event().synchronize()
        return batch


def _on_current_stream(batch: Batch, *, gpu: bool) -> Batch:
    """Return a batch whose memory is reused only after the current stream is done with it."""
    if gpu:
        for tensor in cast(dict[str, Tensor], batch).values():
            if tensor.is_cuda:
                tensor.record_stream(torch.cuda.current_stream(tensor.device))
    return batch
