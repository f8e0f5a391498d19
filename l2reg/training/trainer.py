"""Trainer: the training loop, one optimiser step per batch, with hooks after every step."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from l2reg.batch import Batch, both_directions, split_pairs
from l2reg.losses.weight_schedule import ScheduledLoss
from l2reg.problems import InputError
from l2reg.runtime import autocast
from l2reg.training.distributed import any_rank, average, gather, rank
from l2reg.training.freezing import FreezeSchedule
from l2reg.training.memory import memory_error
from l2reg.training.prefetch import Batches, prefetch
from l2reg.training.scalars import Scalars, mean_over_ranks, not_finite, sum_terms
from l2reg.training.schedule import Schedule
from l2reg.training.seeding import rng_state, seed_rank, set_rng_state


@runtime_checkable
class Hook(Protocol):
    """Action after every training step: logging, validation, checkpoints."""

    def __call__(self, trainer: "Trainer", scalars: Scalars) -> None:
        """Act after a step; a hook must not draw from the global random stream."""
        ...

    def close(self) -> None:
        """Release resources, also when training ended with an error."""
        ...


@runtime_checkable
class StateSaver(Protocol):
    """Hook that can save the state of the trainer after any step."""

    def save(self, trainer: "Trainer") -> None:
        """Save the state."""
        ...


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """Settings of the training loop.

    Attributes:
        max_steps: Total number of optimiser steps, including those before a resumption.
        batch_size: Number of pairs in a batch.
        accumulate: Number of batches whose gradients make a step, in the memory of one.
        symmetric: Whether every pair is registered in both directions, in one pass. This takes the
            memory of twice as many pairs; swapping fixed and moving scans then changes nothing.
        precision: ``float32``; ``tf32``, in which GPUs round the factors of convolutions to 10
            bits; or ``bf16``, which runs the network under bfloat16 autocast. Losses stay in
            float32.
        max_grad_norm: Norm to which gradients are clipped, above 0; infinity for no clipping.
        ema_decay: Decay, in [0, 1), of a moving average of the weights, with which is validated and
            predicted; 0 for none.
        freeze: The step until which parameters are frozen, by a pattern of their names (see
            ``training.freezing``), or ``None``.
        stages: Whether a network that is trained in stages (``lapirn``) is; otherwise all of it is
            trained from the first step.
        activation_checkpointing: Whether the network computes activations twice instead of keeping
            them, see ``models.activation_checkpointing``.
        compile: Whether the network is compiled, see ``models.compilation``.
        checkpoint_every: Number of steps between two writes of ``last.pt``.
        keep: Number of checkpoints that stay: ``last.pt`` and those before it.
        validate_every: Number of steps between two validations; 0 for none.
        patience: Number of validations in a row that are not better than the best before, after
            which training ends; ``None`` for no such end.
        picture_every: Number of steps between two pictures of the first validation pair; 0 for
            none.
        profile_steps: Number of steps that are profiled, after two others; 0 for none.
    """

    max_steps: int
    batch_size: int
    accumulate: int
    symmetric: bool
    precision: str
    max_grad_norm: float
    ema_decay: float
    freeze: Mapping[str, int] | None
    stages: bool
    activation_checkpointing: bool
    compile: bool
    checkpoint_every: int
    keep: int
    validate_every: int
    patience: int | None
    picture_every: int
    profile_steps: int

    def __post_init__(self) -> None:
        counts = ("max_steps", "batch_size", "accumulate", "checkpoint_every", "keep")
        values = [getattr(self, name) for name in counts]
        if min(values) < 1:
            raise ValueError(
                f"trainer.{', '.join(counts)} must be 1 or more, got {', '.join(map(str, values))}"
            )
        if self.patience is not None and (self.patience < 1 or not self.validate_every):
            raise ValueError(
                "trainer.patience must be null or 1 or more, with trainer.validate_every of 1 or "
                f"more, got {self.patience} and {self.validate_every}"
            )
        if not self.max_grad_norm > 0:
            raise ValueError(
                "trainer.max_grad_norm must be above 0 (.inf: no clipping), got "
                f"{self.max_grad_norm}"
            )
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"trainer.ema_decay must be in [0, 1), got {self.ema_decay}")
        if min(self.validate_every, self.picture_every, self.profile_steps) < 0:
            raise ValueError(
                "trainer.validate_every, picture_every and profile_steps must be 0 or more, got "
                f"{self.validate_every}, {self.picture_every}, {self.profile_steps}"
            )


class Trainer:
    """Minimises an objective over batches; everything else is a hook.

    Args:
        model: The network, which maps a batch to a prediction; on the device of the batches.
        objective: The loss, which maps ``(prediction, batch)`` to named terms, already weighted.
        optimizer: The optimiser of ``model.parameters()``; its learning rates are the highest ones
            of the schedule.
        schedule: The learning rate over the steps.
        batches: The training data, indexed by step, so that a resumed run gets the same batches as
            one that was never stopped.
        settings: The settings of the loop.

    Raises:
        InputError: If ``settings.freeze`` does not fit the model.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: nn.Module,
        optimizer: Optimizer,
        schedule: Schedule,
        batches: Batches,
        settings: TrainerSettings,
    ) -> None:
        self.model = model
        self.objective = objective
        self.optimizer = optimizer
        self.schedule = schedule
        self.batches = batches
        self.settings = settings
        self.freezing = FreezeSchedule(
            model, settings.freeze or {}, settings.max_steps, stages=settings.stages
        )
        self.hooks: Sequence[Hook] = ()
        self.base_lr = [float(group["lr"]) for group in optimizer.param_groups]
        self.step = 0
        self.best: float | None = None
        self.stale_validations = 0  # since the best one
        self.stop_requested = False
        self.averaged: AveragedModel | None = None
        if settings.ema_decay > 0:
            decay = get_ema_multi_avg_fn(settings.ema_decay)  # type: ignore[no-untyped-call]
            self.averaged = AveragedModel(model, multi_avg_fn=decay)

    @property
    def validated_model(self) -> nn.Module:
        """The network that is validated and predicted with: the averaged one if there is one."""
        return self.model if self.averaged is None else self.averaged.module

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return next(self.model.parameters()).device

    @property
    def finished(self) -> bool:
        """Whether all steps are done, or ``patience`` validations in a row were not better."""
        patience = self.settings.patience
        impatient = patience is not None and self.stale_validations >= patience
        return impatient or self.step >= self.settings.max_steps

    def run(self) -> None:
        """Train until ``finished``, or until ``stop_requested`` is set; the state is then saved.

        Raises:
            InputError: If the loss or its gradient is not finite; the model is left as it was
                before that step. If the memory is too small.
        """
        try:
            steps = range(self.step, self.step if self.finished else self.settings.max_steps)
            for batch in prefetch(self.batches, steps, self.device):
                with memory_error(self.step, self.settings, getattr(self.model, "grid", "half")):
                    scalars = self.train_step(batch)
                self.step += 1
                for hook in self.hooks:
                    hook(self, scalars)
                if any_rank(self.stop_requested):  # perhaps after the hooks were called
                    self._save()
                    break
                if self.finished:
                    break
        finally:
            for hook in self.hooks:
                hook.close()

    def _save(self) -> None:
        for hook in self.hooks:
            if isinstance(hook, StateSaver):
                hook.save(self)

    def train_step(self, batch: Batch) -> dict[str, float]:
        """Take one optimiser step.

        Returns:
            The loss, its terms, the norm of the gradient, the learning rate, and the weights of the
            terms that have a schedule, as ``weight/<term>``.
        """
        self.model.train()
        lr, weights = self._set_learning_rate(), self._set_weights()
        self.freezing.apply(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        parts = split_pairs(batch, self.settings.accumulate)
        terms = sum_terms([self._backward(part, 1 / len(parts)) for part in parts])
        average(p.grad for p in self.model.parameters() if p.grad is not None)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.max_grad_norm)
        scalars = mean_over_ranks({**terms, "grad_norm": norm})
        if not math.isfinite(scalars["loss"] + scalars["grad_norm"]):
            raise InputError(not_finite(self.step, scalars))
        self.optimizer.step()
        if self.averaged is not None:
            self.averaged.update_parameters(self.model)
        return {**scalars, **weights, "lr": lr}

    def _backward(self, batch: Batch, weight: float) -> dict[str, Tensor]:
        """Add the gradients of a batch times ``weight``; return the loss and its terms times it."""
        if self.settings.symmetric:
            batch = both_directions(batch)
        with autocast(batch["fixed"].device, self.settings.precision):
            prediction = self.model(batch)
        terms: dict[str, Tensor] = self.objective(prediction, batch)
        loss = torch.stack(list(terms.values())).sum() * weight
        loss.backward()  # type: ignore[no-untyped-call]
        return {"loss": loss.detach()} | {n: term.detach() * weight for n, term in terms.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return the state from which the run continues bit for bit."""
        return {
            "step": self.step,
            "max_steps": self.settings.max_steps,
            "best": self.best,
            "stale_validations": self.stale_validations,
            "model": self.model.state_dict(),
            **({} if self.averaged is None else {"averaged": self.averaged.state_dict()}),
            "optimizer": self.optimizer.state_dict(),
            "rng": gather([rng_state(self.device)]),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state that ``state_dict`` returned."""
        self.step = state["step"]
        self.best = state["best"]
        self.stale_validations = state.get("stale_validations", 0)  # earlier builds have none
        self.model.load_state_dict(state["model"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        states = [state["rng"]] if isinstance(state["rng"], Mapping) else state["rng"]
        if rank() < len(states):  # one dictionary in checkpoints of earlier builds
            set_rng_state(states[rank()], self.device)
        else:
            seed_rank(self.step)

    def _set_learning_rate(self) -> float:
        """Set the learning rate of this step, and return that of the first parameter group."""
        factor = self.schedule.factor(self.step, self.settings.max_steps)
        for group, base in zip(self.optimizer.param_groups, self.base_lr, strict=True):
            group["lr"] = base * factor
        return self.base_lr[0] * factor

    def _set_weights(self) -> dict[str, float]:
        """Set the loss weights of this step, and return those that change over the steps."""
        if not isinstance(self.objective, ScheduledLoss):
            return {}
        self.objective.set_step(self.step)
        scheduled = self.objective.scheduled_weights()
        return {f"weight/{name}": weight for name, weight in scheduled.items()}
