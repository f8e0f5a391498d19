"""Published weights of LapIRN and conditional LapIRN, converted to checkpoints of l2reg.

The authors' code (github.com/cwmok, LapIRN and Conditional_LapIRN) nests the networks of the levels
inside each other, and counts the components of a field along the axes k, j, i.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from l2reg.checkpoints import storage
from l2reg.checkpoints.provenance import Provenance
from l2reg.config.build import build
from l2reg.config.presets import load_preset
from l2reg.io.output_folders import OutputKind, claim_output_folder
from l2reg.problems import InputError, Problem
from l2reg.version import __version__

HEADS = {"disp": "displacement", "diff": "velocity"}  # by what the published file names contain
PUBLISHED_SMOOTHNESS = 1.0  # default of the authors' code: 0.1 of the largest, which is 10

_LEVELS = {"model_lvl2.model_lvl1.": 0, "model_lvl2.": 1, "": 2}  # by prefix, coarsest first
_PARTS = {  # of a level and of a residual block
    "input_encoder_lvl1": "encode",
    "down_conv": "shrink",
    "up": "enlarge",
    "output_lvl1": "decode",
    "conv1": "convolutions.0",
    "conv2": "convolutions.1",
    "ai1.style": "modulations.own.0",
    "ai2.style": "modulations.own.1",
    "mapping": "modulations.shared",
}
_BLOCK = re.compile(r"resblock_group_lvl1\.(\d?[02468])\.")  # odd numbers are activations
_N_SHOWN = 3  # tensors that a message names


def import_weights(path: Path, model: str, head: str | None, out: Path) -> dict[str, Any]:
    """Write a run folder with the weights of a published file, and return its model's config.

    Args:
        path: File of the authors' ``torch.save(model.state_dict())``, all three levels.
        model: ``lapirn``, or ``clapirn`` for the conditional network of any width.
        head: ``displacement`` or ``velocity``, which the weights do not tell; ``None`` for what the
            file's name says (``HEADS``), else ``displacement`` for ``clapirn``.
        out: Run folder, which must be new or empty.

    Raises:
        InputError: If the file is missing or damaged, if it is not what ``model`` says, if nothing
            tells the head, or if the folder holds files.
    """
    weights = convert_names(_read(path), path)
    node = _model_config(weights, model)
    _check_fit(weights, node, model, path)
    node["head"] = head or _head(path, model)
    swap_components(weights)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    origin = Provenance(started_from=[f"{path} (SHA-256 {digest})"], imported_from=[path.name])
    task, data = load_preset("task", "oasis"), load_preset("data", "default")
    claim_output_folder(out, OutputKind.RUN, overwrite=False, inputs=[path])
    state = {"step": 0, "model": weights, "config": {"model": node, "task": task, "data": data}}
    state |= {"l2reg": __version__, "trained_on": {}, "origin": origin.as_dict()}
    storage.save(out / storage.BEST, state)
    return node


def convert_names(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return tensors by the names that they have in ``models.lapirn.LapIRN``.

    Args:
        tensors: Tensors by their published names.
        path: Their file.

    Raises:
        InputError: If a name is none of the published networks'.
    """
    names = {name: _own_name(name) for name in tensors}
    unknown = [name for name, own in names.items() if own is None]
    if unknown:
        raise InputError(_mismatch(path, f"{_shorten(unknown)}, which no such network has"))
    return {str(names[name]): tensor.float() for name, tensor in tensors.items()}


def swap_components(weights: dict[str, Tensor]) -> None:
    """Reverse the order of a field's components, in place, where weights take or give a field.

    Args:
        weights: Weights of ``models.lapirn.LapIRN``.
    """
    for name, weight in weights.items():
        if name.endswith(".decode.2.weight"):
            weights[name] = weight.flip(0)
        elif name.endswith(".encode.0.weight"):  # moving and fixed image, then the field if any
            weights[name] = torch.cat([weight[:, :2], weight[:, 2:].flip(1)], dim=1)


def _read(path: Path) -> dict[str, Tensor]:
    expected = "a file of torch.save(model.state_dict()), as LapIRN's authors publish"
    tensors = storage.read(
        path, expected, "name such a file; one older than PyTorch 1.6: load and save it once more"
    )
    entries = tensors.items() if isinstance(tensors, Mapping) else ()
    if not entries or not all(isinstance(n, str) and isinstance(t, Tensor) for n, t in entries):
        raise InputError(_mismatch(path, "something else than named tensors"))
    return dict(entries)


def _own_name(name: str) -> str | None:
    prefix = next(prefix for prefix in _LEVELS if name.startswith(prefix))
    rest, inside = name.removeprefix(prefix), ""
    if block := _BLOCK.match(rest):
        rest, inside = rest[block.end() :], f"blocks.{int(block[1]) // 2}."
    for part, own in _PARTS.items():
        if rest.startswith(f"{part}."):
            return f"levels.{_LEVELS[prefix]}.{inside}{own}{rest.removeprefix(part)}"
    return None


def _head(path: Path, model: str) -> str:
    said = [head for word, head in HEADS.items() if word in path.name.lower()]
    if len(said) == 1:
        return said[0]
    if model == "clapirn":
        return "displacement"
    raise InputError(
        Problem(
            where=str(path),
            what="does not tell whether its network gives displacements or velocities",
            expected="disp or diff in the name, as published, or --head",
            found=path.name,
            remedy="add --head displacement or --head velocity: the weights of both look alike",
        )
    )


def _model_config(weights: Mapping[str, Tensor], model: str) -> dict[str, Any]:
    """Return the config of the network whose sizes the weights have."""
    node = load_preset("model", "lapirn")
    node |= {"grid": "full", "published_pyramid": True}
    node["blocks"] = len({name.split(".")[3] for name in weights if ".blocks." in name})
    shrink, style = (
        weights.get(f"levels.2.{name}.weight", torch.empty(0))
        for name in ("shrink", "blocks.0.modulations.own.0")
    )
    if shrink.ndim == 5:
        width, encoder_width = shrink.shape[:2]
        node |= {"width": width, "encoder_width": None if encoder_width == width else encoder_width}
    if model == "clapirn":
        node["smoothness"] = PUBLISHED_SMOOTHNESS
    if style.ndim == 2:
        node["hidden"] = style.shape[1]
    return node


def _check_fit(weights: Mapping[str, Tensor], node: Any, model: str, path: Path) -> None:
    """Raise an ``InputError`` unless the network takes exactly these weights."""
    conditional = any(".modulations." in name for name in weights)
    if conditional != (model == "clapirn"):
        kind = "a conditional" if conditional else "an unconditional"
        other = "clapirn" if conditional else "lapirn"
        raise InputError(_mismatch(path, f"{kind} network", model, f"--model {other}"))
    with torch.device("meta"):  # shapes only
        network: nn.Module = build(node, "model")
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    missing = [name for name in shapes if name not in weights]
    wrong = [
        f"{name} {tuple(tensor.shape)}"
        for name, tensor in weights.items()
        if shapes.get(name) != tensor.shape
    ]
    if missing or wrong:
        parts = (("no ", missing), ("", wrong))
        found = "; ".join(prefix + _shorten(names) for prefix, names in parts if names)
        raise InputError(_mismatch(path, found, model))


def _shorten(names: list[str]) -> str:
    more = len(names) - _N_SHOWN
    return ", ".join(names[:_N_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _mismatch(path: Path, found: str, model: str = "", option: str = "") -> Problem:
    remedy = f"import it with {option}" if option else "name a file of the last of three stages"
    return Problem(
        where=str(path),
        what="does not hold the weights of " + (f"a published {model}" if model else "a LapIRN"),
        expected="the tensors of a three-dimensional network of three levels, by their published "
        "names",
        found=found,
        remedy=remedy,
    )
