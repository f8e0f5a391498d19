import threading
import time

import pytest
import torch

from l2reg.batch import Batch
from l2reg.training.prefetch import prefetch

CPU = torch.device("cpu")


class Numbered:
    """Batches that hold their step; ``started`` lists the reads that began."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.threads: set[int] = set()

    def __getitem__(self, step: int) -> Batch:
        self.started.append(step)
        self.threads.add(threading.get_ident())
        if step == 7:
            raise OSError("the disk is gone")
        time.sleep(0.002)
        return {"fixed": torch.full((1, 1, 2, 3, 4), float(step))}


def steps_of(batches: list[Batch]) -> list[float]:
    return [batch["fixed"].max().item() for batch in batches]


def test_batches_come_in_the_order_of_their_steps() -> None:
    assert steps_of(list(prefetch(Numbered(), range(2, 7), CPU))) == [2, 3, 4, 5, 6]
    assert list(prefetch(Numbered(), range(3, 3), CPU)) == []


def test_the_next_batch_is_read_by_another_thread_while_one_is_used() -> None:
    batches = Numbered()
    reader = prefetch(batches, range(5), CPU)
    next(reader)
    until = time.monotonic() + 5
    while batches.started != [0, 1] and time.monotonic() < until:
        time.sleep(0.001)
    assert batches.started == [0, 1]
    assert threading.get_ident() not in batches.threads
    reader.close()
    assert batches.started == [0, 1]


def test_an_error_of_a_reader_ends_the_training_with_its_cause() -> None:
    reader = prefetch(Numbered(), range(6, 9), CPU)
    assert steps_of([next(reader)]) == [6]
    with pytest.raises(OSError, match="the disk is gone"):
        next(reader)
