"""Start from the weights of another run, as far as they fit, and remember what they have seen."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from tqdm import tqdm

from l2reg.engine import checkpoint
from l2reg.problems import InputError, Problem

_NAMES_SHOWN = 8


@dataclass(frozen=True)
class Origin:
    """Where the first weights of a run come from, over all runs before it.

    Attributes:
        started_from: Checkpoints, oldest first.
        trained_on: Digest of every image they were trained on: ``image`` or ``supervised``.
        chosen_on: Digests of the fixed images by whose scores one of them was chosen.
    """

    started_from: Sequence[str] = ()
    trained_on: Mapping[str, str] = field(default_factory=dict)
    chosen_on: Sequence[str] = ()

    @classmethod
    def of_run(cls, state: Mapping[str, Any]) -> "Origin":
        """Return the origin that the checkpoint of a run remembers."""
        return cls(**state.get("origin", {}))

    @classmethod
    def from_parent(cls, path: Path, state: Mapping[str, Any]) -> "Origin":
        """Return the origin of a run that starts from the checkpoint ``state`` at ``path``."""
        before = cls.of_run(state)
        return cls(
            started_from=[*before.started_from, f"{path} (step {state['step']})"],
            trained_on=state["trained_on"],  # which holds those of the runs before it
            chosen_on=sorted({*before.chosen_on, *state.get("chosen_on", ())}),
        )

    def and_trained_on(self, *more: Mapping[str, str]) -> dict[str, str]:
        """Return all images ever trained on: ``supervised`` if they were so once."""
        merged: dict[str, str] = {}
        for seen in (self.trained_on, *more):
            for digest, how in seen.items():
                if merged.get(digest) != "supervised":
                    merged[digest] = how
        return merged

    def stored(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, for ``of_run``."""
        return asdict(self)


def warm_start(model: nn.Module, named: Path) -> Origin:
    """Load the weights that fit by name and shape, and print what was and was not loaded.

    Args:
        model: Changed in place; what is not loaded keeps its values.
        named: Run folder (its best model) or checkpoint file.

    Raises:
        InputError: If there is no such checkpoint, or nothing of it fits.
    """
    path = checkpoint.find(named)
    state = checkpoint.load(path)
    given: dict[str, Tensor] = state["model"]
    own = model.state_dict()
    fitting = {n: t for n, t in given.items() if n in own and own[n].shape == t.shape}
    if not fitting:
        raise InputError(_nothing_fits(named, given, own))
    model.load_state_dict(fitting, strict=False)
    tqdm.write(f"starting from {path}: {len(fitting)} of {len(own)} tensors loaded")
    reshaped = [n for n in given if n in own and n not in fitting]
    for what, names in (
        ("not loaded, other shape", [_both_shapes(n, given, own) for n in reshaped]),
        ("new here", [_shape(n, own) for n in own if n not in given]),
        ("not used", [_shape(n, given) for n in given if n not in own]),
    ):
        if names:
            tqdm.write(f"  {what}: {_shortened(names)}")
    return Origin.from_parent(path, state)


def _shape(name: str, tensors: Mapping[str, Tensor]) -> str:
    return f"{name} {tuple(tensors[name].shape)}"


def _both_shapes(name: str, given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    return f"{name} {tuple(given[name].shape)}, here {tuple(own[name].shape)}"


def _shortened(names: Sequence[str]) -> str:
    more = len(names) - _NAMES_SHOWN
    return "; ".join(names[:_NAMES_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def _nothing_fits(named: Path, given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Problem:
    return Problem(
        where=f"init_from={named}",
        what="has no weights that this network could use",
        expected=_shortened([_shape(name, own) for name in own]),
        found=_shortened([_shape(name, given) for name in given]),
        remedy="name a run of the same model, or set model=... to that of the run",
    )
