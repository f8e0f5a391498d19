"""Freezing: parameters that are trained from a given step on.

What is frozen is a pure function of the step, so there is nothing to store.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase

from torch import nn

from l2reg.problems import InputError, Problem


class FreezeSchedule:
    """Freezes parameters of a network until a given step.

    Args:
        network: The network; parameters without ``requires_grad`` are never trained.
        until: The first step, counted from 0, in which parameters are trained, by a pattern of
            their names (``encoder*``). Where several patterns match, the latest step counts.

    Raises:
        InputError: If a pattern matches no trainable parameter, or all are frozen in step 0.
    """

    def __init__(self, network: nn.Module, until: Mapping[str, int]) -> None:
        trainable = {n: p for n, p in network.named_parameters() if p.requires_grad}
        self.frozen: list[tuple[nn.Parameter, int]] = []
        for name, parameter in trainable.items():
            steps = [step for pattern, step in until.items() if fnmatchcase(name, pattern)]
            if steps:
                self.frozen.append((parameter, max(steps)))
        for pattern in until:
            if not any(fnmatchcase(name, pattern) for name in trainable):
                raise InputError(_matches_nothing(pattern, list(trainable)))
        if trainable and sum(step > 0 for _, step in self.frozen) == len(trainable):
            raise InputError(_all_frozen(until))

    def apply(self, step: int) -> None:
        """Freeze and unfreeze the parameters as ``step`` requires."""
        for parameter, first in self.frozen:
            parameter.requires_grad_(step >= first)


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


def _all_frozen(until: Mapping[str, int]) -> Problem:
    return Problem(
        where="trainer.freeze",
        what="freezes all parameters in the first step",
        expected="patterns that leave some parameters to be trained",
        found=", ".join(f"{pattern}: {step}" for pattern, step in until.items()),
        remedy="freeze fewer parameters",
    )
