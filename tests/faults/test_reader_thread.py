"""A reader thread that fails: the trainer raises its error, and does not wait for it."""

import threading
from typing import Any

import pytest
import torch
from torch import nn

from l2reg.batch import Batch
from l2reg.training.schedule import WarmupCosine
from l2reg.training.trainer import Trainer, TrainerSettings

SETTINGS = TrainerSettings(max_steps=40, batch_size=1, symmetric=False, precision="float32",
                           max_grad_norm=1.0, ema_decay=0.0, accumulate=1, freeze=None, stages=True,
                           activation_checkpointing=False, compile=False,
                           checkpoint_every=10, keep=2,
                           validate_every=10, patience=None, picture_every=10,
                           profile_steps=0)  # fmt: skip


class Failing:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __getitem__(self, step: int) -> Batch:
        if step == 2:
            raise self.error
        return {}


class Closed:
    is_closed = False

    def __call__(self, *_: Any) -> None: ...

    def close(self) -> None:
        self.is_closed = True


@pytest.mark.parametrize("error", [OSError(5, "Input/output error", "a.nii"), MemoryError("no")])
def test_the_error_of_the_reader_thread_ends_the_training(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = Trainer(model, nn.Identity(), optimizer, WarmupCosine(warmup=0.0, min_factor=0.0),
                      Failing(error), SETTINGS)  # fmt: skip
    monkeypatch.setattr(trainer, "train_step", lambda batch: {})
    hook = Closed()
    trainer.hooks = [hook]
    n_threads = threading.active_count()
    with pytest.raises(type(error)) as raised:
        trainer.run()
    assert raised.value is error
    assert trainer.step == 2
    assert hook.is_closed
    assert threading.active_count() == n_threads
