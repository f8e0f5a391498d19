import random

import numpy as np
import torch

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


def test_torchs_stream_can_be_put_back() -> None:
    state = rng_state()
    expected = torch.rand(3)
    set_rng_state(state)
    assert torch.equal(torch.rand(3), expected)
