import random
from pathlib import Path

import numpy as np
import pytest
import torch

from l2reg.checkpoints import storage
from l2reg.training.seeding import rng_state, seed_everything, set_rng_state

CPU = torch.device("cpu")


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
    storage.save(tmp_path / "last.pt", {"rng": rng_state(CPU)})

    def draw_all() -> list[float]:
        return [*draw(), random.gauss(0, 1), float(np.random.randn())]  # noqa: NPY002

    expected = draw_all()
    seed_everything(4)
    set_rng_state(storage.load(tmp_path / "last.pt")["rng"], CPU)
    assert draw_all() == expected


def test_a_state_of_torch_alone_is_put_back_alone() -> None:
    state = {name: value for name, value in rng_state(CPU).items() if name in ("torch", "cuda")}
    expected = torch.rand(3)
    set_rng_state(state, CPU)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("device", "n_saved", "restored"),
    [("cuda:0", 1, 0), ("cuda:3", 1, 0), ("cuda:1", 4, 1), ("cuda:5", 2, None), ("cuda:0", 0, None),
     ("cpu", 1, None), ("cpu", 0, None)],
)  # fmt: skip
def test_a_run_goes_on_on_a_machine_with_another_number_of_gpus_and_says_what_differs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    device: str, n_saved: int, restored: int | None,
) -> None:  # fmt: skip
    put_back: list[tuple[int, str]] = []
    monkeypatch.setattr(
        "torch.cuda.set_rng_state", lambda state, on: put_back.append((int(state[0]), str(on)))
    )
    states = [torch.tensor([number], dtype=torch.uint8) for number in range(n_saved)]
    set_rng_state({**rng_state(CPU), "cuda": states}, torch.device(device))
    assert put_back == ([] if restored is None else [(restored, device)])
    line = capsys.readouterr().out
    if restored is None and (device, n_saved) != ("cpu", 0):
        assert f"the states of {n_saved} GPUs, and this is {device}" in line
    else:
        assert not line


@pytest.mark.gpu
def test_the_stream_of_a_gpu_is_put_back() -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    state = rng_state(device)
    expected = torch.rand(3, device=device)
    set_rng_state(state, device)
    assert torch.equal(torch.rand(3, device=device), expected)
