"""The training loop."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from l2reg.batch import Batch, both_directions
from l2reg.models.prediction import StagedTraining
from l2reg.problems import InputError, Problem
from l2reg.runtime import autocast
from l2reg.training.freezing import FreezeSchedule
from l2reg.training.schedule import WarmupCosine
from l2reg.training.seeding import rng_state, set_rng_state

Scalars = Mapping[str, float]


@runtime_checkable
class Batches(Protocol):
    """Training data addressed by step."""

    def __getitem__(self, step: int) -> Batch:
        """Return the batch of ``step``, on the device, always the same."""
        ...


@runtime_checkable
class Hook(Protocol):
    """Something that happens beside the training: logging, validation, checkpoints."""

    def __call__(self, trainer: "Trainer", scalars: Scalars) -> None:
        """Act after a step; must not draw from the global random stream."""
        ...

    def close(self) -> None:
        """Finish, whether training ended well or not."""
        ...


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """How long and how to train.

    Attributes:
        max_steps: Optimiser steps in all, those before a resumption included.
        batch_size: Pairs a step.
        symmetric: Every pair is registered in both directions, in one pass: memory for twice as
            many pairs. Swapping fixed and moving scans then changes nothing.
        precision: ``bf16`` runs the network under bfloat16 autocast; losses stay in float32.
        max_grad_norm: Gradients are clipped to this norm.
        freeze: Patterns of parameter names, and the step until which they rest (see
            ``engine.freezing``), or ``None``.
        checkpoint_every: Steps between two ``last.pt``.
        validate_every: Steps between two validations; 0 for none.
        picture_every: Steps between two pictures of the first validation pair; 0 for none.
    """

    max_steps: int
    batch_size: int
    symmetric: bool
    precision: str
    max_grad_norm: float
    freeze: Mapping[str, int] | None
    checkpoint_every: int
    validate_every: int
    picture_every: int

    def __post_init__(self) -> None:
        if min(self.max_steps, self.batch_size, self.checkpoint_every) < 1:
            raise ValueError(
                "trainer.max_steps, batch_size and checkpoint_every must be 1 or more, got "
                f"{self.max_steps}, {self.batch_size}, {self.checkpoint_every}"
            )


class Trainer:
    """Minimises ``objective`` over ``batches``; everything else is a hook.

    Args:
        model: Maps a batch to a prediction; on the device of the batches.
        objective: Maps ``(prediction, batch)`` to named loss terms, already weighted.
        optimizer: Built on ``model.parameters()``; its learning rates are the highest ones.
        schedule: Learning rate over the steps.
        batches: Answers ``batches[step]``; see ``data.pairs`` for why it is indexed.
        settings: How long and how.

    Raises:
        InputError: If ``settings.freeze`` does not fit the model.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: nn.Module,
        optimizer: Optimizer,
        schedule: WarmupCosine,
        batches: Batches,
        settings: TrainerSettings,
    ) -> None:
        self.model = model
        self.objective = objective
        self.optimizer = optimizer
        self.schedule = schedule
        self.batches = batches
        self.settings = settings
        self.freezing = FreezeSchedule(model, settings.freeze or {})
        self.hooks: Sequence[Hook] = ()
        self.base_lr = [float(group["lr"]) for group in optimizer.param_groups]
        self.step = 0
        self.best: float | None = None
        self.stop_requested = False

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return self.step >= self.settings.max_steps

    def run(self) -> None:
        """Train until ``max_steps``, or until somebody sets ``stop_requested``.

        Raises:
            InputError: If the loss or its gradient is not finite; the model is as it was before
                that step.
        """
        try:
            for batch in self._prefetch():
                scalars = self.train_step(batch)
                self.step += 1
                for hook in self.hooks:
                    hook(self, scalars)
                if self.stop_requested:
                    break
        finally:
            for hook in self.hooks:
                hook.close()

    def _prefetch(self) -> Iterator[Batch]:
        """Yield the batches from the present step on, the next one read while this one is used."""
        first, end = self.step, self.settings.max_steps
        with ThreadPoolExecutor(max_workers=1) as reading:
            reads = (reading.submit(self.batches.__getitem__, step) for step in range(first, end))
            following = next(reads, None)
            while following is not None:
                batch = following.result()
                following = next(reads, None)
                yield batch

    def train_step(self, batch: Batch) -> dict[str, float]:
        """Take one optimiser step and return its scalars."""
        self.model.train()
        if isinstance(self.model, StagedTraining):
            self.model.set_progress(self.step / self.settings.max_steps)
        lr = self._set_learning_rate()
        self.freezing.apply(self.step)
        if self.settings.symmetric:
            batch = both_directions(batch)
        with autocast(batch["fixed"].device, self.settings.precision):
            prediction = self.model(batch)
        terms: dict[str, Tensor] = self.objective(prediction, batch)
        loss = torch.stack(list(terms.values())).sum()
        self.optimizer.zero_grad(set_to_none=True)
        if torch.isfinite(loss):
            loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.max_grad_norm)
        scalars = {"loss": loss.item(), **{name: term.item() for name, term in terms.items()}}
        if not (torch.isfinite(loss) and torch.isfinite(norm)):
            raise InputError(self._not_finite({**scalars, "gradient norm": norm.item()}))
        self.optimizer.step()
        return {**scalars, "grad_norm": norm.item(), "lr": lr}

    def state_dict(self) -> dict[str, Any]:
        """Return all that is needed to continue this run bit for bit."""
        return {
            "step": self.step,
            "max_steps": self.settings.max_steps,
            "best": self.best,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": rng_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``."""
        self.step = state["step"]
        self.best = state["best"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        set_rng_state(state["rng"])

    def _set_learning_rate(self) -> float:
        factor = self.schedule.factor(self.step, self.settings.max_steps)
        for group, base in zip(self.optimizer.param_groups, self.base_lr, strict=True):
            group["lr"] = base * factor
        return self.base_lr[0] * factor

    def _not_finite(self, values: Mapping[str, float]) -> Problem:
        return Problem(
            where=f"training step {self.step}",
            what="has a loss or gradient that is not finite",
            expected="finite numbers",
            found=", ".join(f"{name} {value:.4g}" for name, value in values.items()),
            remedy="the checkpoints hold the state before; lower optimizer.lr or look at the term "
            "above that is nan or inf (its weight is loss.weights.<term>)",
        )
