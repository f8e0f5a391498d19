"""Start from the weights of another run, as far as they fit, and remember what they have seen."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn
from tqdm import tqdm

from l2reg.checkpoints import storage
from l2reg.checkpoints.provenance import Provenance
from l2reg.problems import InputError, Problem

_NAMES_SHOWN = 8


def warm_start(model: nn.Module, named: Path) -> Provenance:
    """Load the weights that fit by name and shape, and print what was and was not loaded.

    Args:
        model: Changed in place; what is not loaded keeps its values.
        named: Run folder (its best model) or checkpoint file.

    Raises:
        InputError: If there is no such checkpoint, or nothing of it fits.
    """
    path = storage.find(named)
    state = storage.load(path)
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
    return Provenance.from_parent(path, state)


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
