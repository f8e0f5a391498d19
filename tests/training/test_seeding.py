import random
from pathlib import Path

import numpy as np
import torch

from l2reg.checkpoints import storage
from l2reg.training.seeding import rng_state, seed_everything, set_rng_state


def draw() -> list[float]:
    return [random.random(), float(np.random.rand()), float(torch.rand(()))]  # noqa: NPY002


def test_the_same_seed_gives_the_same_numbers_and_another_gives_others() -> None:
    seed_everything(3)
    first = draw()
    seed_everything(3)
    assert draw() == first
    seed_everything(4)
    assert draw() != first


def test_every_global_stream_can_be_put_back_from_a_checkpoint(tmp_path: Path) -> None:
    seed_everything(3)
    np.random.randn()  # noqa: NPY002 - the second of two normal numbers is kept for the next call
    storage.save(tmp_path / "last.pt", {"rng": rng_state()})

    def draw_all() -> list[float]:
        return [*draw(), random.gauss(0, 1), float(np.random.randn())]  # noqa: NPY002

    expected = draw_all()
    seed_everything(4)
    set_rng_state(storage.load(tmp_path / "last.pt")["rng"])
    assert draw_all() == expected


def test_a_state_of_torch_alone_is_put_back_alone() -> None:
    state = {name: value for name, value in rng_state().items() if name in ("torch", "cuda")}
    expected = torch.rand(3)
    set_rng_state(state)
    assert torch.equal(torch.rand(3), expected)
