"""Warm start: load the weights of another run where they fit, and return their provenance."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from tqdm import tqdm

from l2reg.checkpoints import storage
from l2reg.checkpoints.provenance import Provenance
from l2reg.checkpoints.run_checkpoints import load_checkpoint
from l2reg.problems import InputError, Problem
from l2reg.wording import quantity

_NAMES_SHOWN = 8
_PYRAMID = "published_pyramid"


def warm_start(model: nn.Module, checkpoint: Path) -> Provenance:
    """Load the weights that fit by name and shape, and print which were loaded and which were not.

    Args:
        model: The network, changed in place; parameters that are not loaded keep their values.
        checkpoint: Run folder (its best model) or checkpoint file.

    Raises:
        InputError: If there is no such checkpoint, none of its weights fits, or they were trained
            with another ``published_pyramid``.
    """
    loaded = load_checkpoint(checkpoint)
    path, state = loaded.path, loaded.state
    for note in loaded.notes:
        tqdm.write(f"warning: {note}")
    source, target = storage.weights(state), model.state_dict()
    matches = _matches(model, state, checkpoint)
    model.load_state_dict(matches, strict=False)
    tqdm.write(f"starting from {path}: {len(matches)} of {quantity(len(target), 'tensor')} loaded")
    mismatches = [n for n in source if n in target and n not in matches]
    for what, names in (
        ("not loaded, different shape", [_both_shapes(n, source, target) for n in mismatches]),
        ("not in the checkpoint", [_shape(n, target) for n in target if n not in source]),
        ("not used", [_shape(n, source) for n in source if n not in target]),
    ):
        if names:
            tqdm.write(f"  {what}: {_shorten(names)}")
    return Provenance.from_parent(path, state)


def check_warm_start(model: nn.Module, checkpoint: Path) -> None:
    """Raise what ``warm_start`` would raise; nothing is changed or printed."""
    _matches(model, load_checkpoint(checkpoint).state, checkpoint)


def _matches(model: nn.Module, state: Mapping[str, Any], checkpoint: Path) -> dict[str, Tensor]:
    """Return the weights of a checkpoint that fit a network."""
    source, target = storage.weights(state), model.state_dict()
    matches = {n: t for n, t in source.items() if n in target and target[n].shape == t.shape}
    if not matches:
        raise InputError(_nothing_fits(checkpoint, source, target))
    _check_same_pyramid(model, state["config"]["model"], checkpoint)
    return matches


def _check_same_pyramid(model: nn.Module, node: Mapping[str, Any], checkpoint: Path) -> None:
    """Raise an ``InputError`` if the weights fit, but mean something else on other grids."""
    before, now = node.get(_PYRAMID, False), getattr(model, _PYRAMID, False)
    if before != now:
        raise InputError(
            Problem(
                where=f"init_from={checkpoint}",
                what="was trained with levels on other grids",
                expected=f"model.{_PYRAMID}={str(before).lower()}",
                found=str(now).lower(),
                remedy="set the key so; the same weights give another field otherwise",
            )
        )


def _shape(name: str, tensors: Mapping[str, Tensor]) -> str:
    return f"{name} {tuple(tensors[name].shape)}"


def _both_shapes(name: str, source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> str:
    return f"{name} {tuple(source[name].shape)}, in this network {tuple(target[name].shape)}"


def _shorten(names: Sequence[str]) -> str:
    more = len(names) - _NAMES_SHOWN
    return "; ".join(names[:_NAMES_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def _nothing_fits(
    checkpoint: Path, source: Mapping[str, Tensor], target: Mapping[str, Tensor]
) -> Problem:
    return Problem(
        where=f"init_from={checkpoint}",
        what="has no weights that fit this network",
        expected=_shorten([_shape(name, target) for name in target]),
        found=_shorten([_shape(name, source) for name in source]),
        remedy="name a run of the same model, or set model=... to the model of that run",
    )
