"""Parameters that rest at first: a pure function of the step, so there is nothing to store."""

from collections.abc import Mapping
from fnmatch import fnmatchcase

from torch import nn

from l2reg.problems import InputError, Problem


class FreezeSchedule:
    """Keeps parameters of a network as they are until their step.

    Args:
        network: Whose parameters, by name; one that never learns stays so.
        until: Patterns of parameter names (``encoder*``) and the first step, counted from 0, in
            which they learn. Where several patterns match, the latest step counts.

    Raises:
        InputError: If a pattern matches nothing, or nothing is left to learn in step 0.
    """

    def __init__(self, network: nn.Module, until: Mapping[str, int]) -> None:
        learning = {n: p for n, p in network.named_parameters() if p.requires_grad}
        self.frozen: list[tuple[nn.Parameter, int]] = []
        for name, parameter in learning.items():
            steps = [step for pattern, step in until.items() if fnmatchcase(name, pattern)]
            if steps:
                self.frozen.append((parameter, max(steps)))
        for pattern in until:
            if not any(fnmatchcase(name, pattern) for name in learning):
                raise InputError(_matches_nothing(pattern, list(learning)))
        if learning and sum(step > 0 for _, step in self.frozen) == len(learning):
            raise InputError(_rests_whole(until))

    def apply(self, step: int) -> None:
        """Let learn what learns in ``step``, and nothing else."""
        for parameter, first in self.frozen:
            parameter.requires_grad_(step >= first)


def _matches_nothing(pattern: str, names: list[str]) -> Problem:
    return Problem(
        where=f"trainer.freeze: {pattern}",
        what="is the name of no parameter",
        expected="a pattern with * and ?, such as one of " + ", ".join(_beginnings(names)),
        found=pattern,
        remedy="correct the pattern, or leave it out",
    )


def _beginnings(names: list[str]) -> list[str]:
    return list(dict.fromkeys(f"{name.split('.')[0]}*" for name in names))


def _rests_whole(until: Mapping[str, int]) -> Problem:
    return Problem(
        where="trainer.freeze",
        what="leaves nothing to learn in the first step",
        expected="patterns that spare some parameters",
        found=", ".join(f"{pattern}: {step}" for pattern, step in until.items()),
        remedy="freeze less",
    )
