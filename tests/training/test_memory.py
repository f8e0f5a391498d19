from types import SimpleNamespace
from typing import Any

import pytest
import torch

from l2reg.problems import InputError
from l2reg.training.memory import MemoryPeak, memory_error, memory_options

FLOAT = 4  # bytes


def settings(**changes: Any) -> Any:
    options = {"activation_checkpointing": False, "batch_size": 1, "accumulate": 1,
               "precision": "tf32", **changes}  # fmt: skip
    return SimpleNamespace(**options)


def test_the_peak_is_of_the_tensors_that_live_at_once() -> None:
    given = torch.ones(500)
    with MemoryPeak() as memory:
        for _ in range(3):
            a = given * 2  # 500
            b = torch.cat([a, a])  # 1000 more: the peak
            del a, b
        given.mul_(2)  # in place
        given.view(5, 100)[1:].t()  # views
        assert memory.peak == 1500 * FLOAT
        torch.zeros(1501)
    assert memory.peak == 1501 * FLOAT


def test_what_the_backward_pass_needs_is_counted_until_it_is_over() -> None:
    weight = torch.ones(100, requires_grad=True)
    with MemoryPeak() as memory:
        maps = weight
        for _ in range(5):
            maps = maps.exp()  # each result is kept for the gradient
        assert memory.peak == 500 * FLOAT
        maps.sum().backward()
    assert 700 * FLOAT <= memory.peak <= 900 * FLOAT


def test_the_options_are_those_that_are_not_in_use() -> None:
    assert memory_options(settings(batch_size=2, accumulate=3), "full") == [
        "trainer.activation_checkpointing=true",
        "trainer.batch_size=1 trainer.accumulate=6",
        "trainer.precision=bf16",
        "model.grid=half",
    ]
    assert memory_options(settings(activation_checkpointing=True, precision="bf16"), "half") == []


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."),
     RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes")],
)  # fmt: skip
def test_too_little_memory_is_told_with_what_saves_it(error: Exception) -> None:
    with pytest.raises(InputError, match=r"(?s)step 7: does not fit.*activation_ch.*plan=true"):
        with memory_error(7, settings(), "half"):
            raise error


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes differ"), memory_error(7, settings(), "half"):
        raise RuntimeError("shapes differ")
