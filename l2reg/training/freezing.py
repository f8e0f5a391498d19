"""Freezing: the parameters that a step trains, by ``trainer.freeze`` and the network's own stages.

What is frozen is a pure function of the step, so there is nothing to store.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase

from torch import nn

from l2reg.models.prediction import StagedTraining
from l2reg.problems import InputError, Problem

_N_CHECKED = 1000  # steps that are checked in advance, apart from those that ``until`` names


class FreezeSchedule:
    """Freezes parameters of a network until a given step, and sets the stage of a staged network.

    A parameter is trained in a step if both this schedule and the stage train it.

    Args:
        network: The network; parameters without ``requires_grad`` are never trained.
        until: The first step, counted from 0, in which parameters are trained, by a pattern of
            their names (``encoder*``). Where several patterns match, the latest step counts.
        max_steps: Number of steps of the training.
        stages: Whether a staged network is trained in its stages; otherwise all of it is from the
            first step.

    Raises:
        InputError: If a pattern matches no trainable parameter, or all are frozen in a step.
    """

    def __init__(
        self, network: nn.Module, until: Mapping[str, int], max_steps: int, *, stages: bool
    ) -> None:
        self.network = network
        self.staged = network if stages and isinstance(network, StagedTraining) else None
        self.until = until
        self.max_steps = max_steps
        self.trainable = {n: p for n, p in network.named_parameters() if p.requires_grad}
        self.first_step = dict.fromkeys(self.trainable, 0)
        for pattern, step in until.items():
            names = [name for name in self.trainable if fnmatchcase(name, pattern)]
            if not names:
                raise InputError(_matches_nothing(pattern, list(self.trainable)))
            for name in names:
                self.first_step[name] = max(step, self.first_step[name])
        if until:
            every = max(1, max_steps // _N_CHECKED)
            last_frozen = {step - 1 for step in until.values() if 0 < step <= max_steps}
            for step in sorted({*range(0, max_steps, every), *last_frozen}):
                self.apply(step)

    def apply(self, step: int) -> None:
        """Freeze and unfreeze the parameters as ``step`` requires.

        Raises:
            InputError: If all are frozen.
        """
        for parameter in self.trainable.values():
            parameter.requires_grad_()
        if self.staged is not None:
            self.staged.set_progress(step / self.max_steps)
        for name, parameter in self.trainable.items():
            parameter.requires_grad_(parameter.requires_grad and step >= self.first_step[name])
        if self.until and not any(p.requires_grad for p in self.trainable.values()):
            raise InputError(_all_frozen(self.until, step))


def _matches_nothing(pattern: str, names: list[str]) -> Problem:
    return Problem(
        where=f"trainer.freeze: {pattern}",
        what="matches no trainable parameter",
        expected="a pattern with * and ?, such as " + ", ".join(_module_patterns(names)),
        found=pattern,
        remedy="correct the pattern, or leave it out",
    )


def _module_patterns(names: list[str]) -> list[str]:
    return list(dict.fromkeys(f"{name.split('.')[0]}*" for name in names))


def _all_frozen(until: Mapping[str, int], step: int) -> Problem:
    return Problem(
        where="trainer.freeze",
        what="freezes all parameters that the network would train in step " + str(step),
        expected="patterns that leave some parameters to be trained",
        found=", ".join(f"{pattern}: {first}" for pattern, first in until.items()),
        remedy="freeze fewer parameters, or for fewer steps",
    )
