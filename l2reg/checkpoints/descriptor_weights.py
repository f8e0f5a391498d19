"""Weights of descriptors: read from a run or a file of safetensors, and written as the latter."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from l2reg.checkpoints import storage
from l2reg.config.build import build
from l2reg.features.learned import Learned
from l2reg.io.safetensors import read_safetensors, write_safetensors
from l2reg.models.descriptors import DescriptorNetwork
from l2reg.problems import InputError, Problem

_SUFFIX = ".safetensors"


def learned_features(weights: str | None) -> Learned:
    """Return the features of trained descriptors.

    Args:
        weights: Run folder of ``experiment=descriptors`` (its best weights), one of its checkpoints
            or a file of ``write_descriptors``.

    Raises:
        InputError: If there are no weights, or if they are damaged or of another network.
    """
    if weights is None:
        raise InputError(_problem("weights=null", "are missing", "null"))
    path = Path(weights).expanduser()
    node, tensors = _read_safetensors(path) if path.suffix == _SUFFIX else _read_checkpoint(path)
    try:
        network = _build(node, path)
        network.load_state_dict(tensors)
    except RuntimeError as error:  # also of a network with impossible widths
        found = " ".join(str(error).split())[:300]
        raise InputError(_problem(str(path), "do not fit their network", found)) from error
    return Learned(network.eval().requires_grad_(requires_grad=False))


def write_descriptors(run: Path, out: Path) -> None:
    """Write the weights of a run as safetensors, in float16.

    Args:
        run: Run folder of ``experiment=descriptors`` or one of its checkpoints.
        out: File to write.

    Raises:
        InputError: If the run is none of descriptors, or ``out`` does not end in ``.safetensors``.
    """
    if out.suffix != _SUFFIX:
        raise InputError(
            Problem(
                where=str(out),
                what="has another ending",
                expected=_SUFFIX,
                found=out.suffix or "none",
                remedy=f"name the file {out.stem}{_SUFFIX}",
            )
        )
    node, tensors = _read_checkpoint(run)
    _build(node, run)
    arrays = {name: tensor.numpy().astype(np.float16) for name, tensor in tensors.items()}
    write_safetensors(out, arrays, {"model": json.dumps(node)})


def _read_checkpoint(path: Path) -> tuple[Any, Mapping[str, Tensor]]:
    state = storage.load(storage.find(path))
    return state["config"]["model"], storage.weights(state)


def _read_safetensors(path: Path) -> tuple[Any, Mapping[str, Tensor]]:
    arrays, metadata = read_safetensors(path)
    try:
        node = json.loads(metadata["model"])
    except (KeyError, ValueError) as error:
        found = "no description of their network"
        raise InputError(_problem(str(path), "are of another network", found)) from error
    return node, {name: torch.from_numpy(array) for name, array in arrays.items()}


def _build(node: Any, path: Path) -> DescriptorNetwork:
    network = build(node, "model")
    if not isinstance(network, DescriptorNetwork):
        raise InputError(_problem(str(path), "are of another network", type(network).__name__))
    return network


def _problem(where: str, what: str, found: str) -> Problem:
    return Problem(
        where=f"weights of descriptors, {where}",
        what=what,
        expected="the folder of a run of experiment=descriptors, or its .safetensors",
        found=found,
        remedy="model.features.learned.weights=runs/descriptors",
    )
