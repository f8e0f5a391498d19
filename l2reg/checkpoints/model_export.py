"""A trained model without its training: weights as safetensors, and a model card.

The file holds what a prediction needs (weights, model, task, data, provenance) and no optimiser or
random state. Its header has that as YAML, with the SHA-256 of the YAML and of all tensors; nothing
in it is code.
"""

import hashlib
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from l2reg.checkpoints import storage
from l2reg.config.task_nodes import task_nodes
from l2reg.config.yaml_files import parse_yaml
from l2reg.io.files import atomic_write, is_system_error
from l2reg.problems import Problem

EXPORTED = ".safetensors"  # suffix of exported models
WEIGHTS = f"model{EXPORTED}"  # the one in a folder of l2reg export

_HEADER = "l2reg"  # key of the header
_KEYS = ("step", "l2reg", "scores", "trained_on", "chosen_on", "origin")  # as in a checkpoint
_NODES = ("model", "task", "data", "mixed")
_PATHS = (("data", "root"), ("data", "pairs"), ("data", "pseudo_labels", "root"), ("task", "root"))


def write_export(path: Path, state: Mapping[str, Any]) -> dict[str, Any]:
    """Write the weights to predict with, and what a prediction is built from.

    Paths of data are left out: they are those of the machine that trained.

    Args:
        path: The file, ``*.safetensors``.
        state: Content of a checkpoint.

    Returns:
        The state that ``read_export`` will return, without the weights.
    """
    config = {key: value for key, value in state["config"].items() if key in _NODES}
    content = {"format": storage.FORMAT, "config": without_paths(config)}
    content |= {key: state[key] for key in _KEYS if key in state}
    text = yaml.safe_dump(content, sort_keys=False)
    tensors = {name: tensor.contiguous() for name, tensor in storage.weights(state).items()}
    header = f"sha256: {_digest(text, tensors)}\n{text}"
    with atomic_write(path) as temporary:
        temporary.write_bytes(save(tensors, {_HEADER: header}))
    return content


def read_export(path: Path) -> dict[str, Any]:
    """Return what ``write_export`` wrote, as the content of a checkpoint.

    Raises:
        DamagedCheckpointError: If the file is missing, damaged, or was written by another program.
        InputError: If it has another version of the format.
    """
    if not path.is_file():
        raise storage.DamagedCheckpointError(_not_an_export(path, "no such file"))
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(_HEADER)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if header is None:
            raise ValueError("no description of a model of l2reg in its header")
        line, _, text = header.partition("\n")
        if line != f"sha256: {_digest(text, tensors)}":
            raise ValueError("its content does not have its checksum")
        content = parse_yaml(text)
    except (SafetensorError, ValueError, OSError) as error:
        if is_system_error(error):
            raise
        raise storage.DamagedCheckpointError(_not_an_export(path, str(error)[:200])) from error
    storage.check_format(content, path)
    return {**content, "model": tensors}


def without_paths(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config of a run without the paths of its data."""
    copy = deepcopy(dict(config))
    for node in task_nodes(copy).values():
        for *groups, key in _PATHS:
            inner: Any = node
            for group in groups:
                inner = inner.get(group) or {}
            if key in inner:
                inner[key] = None
    return copy


def _digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of a text and of names, types, shapes and values of tensors."""
    sha256 = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        sha256.update(f"\0{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        sha256.update(tensor.flatten().view(torch.uint8).numpy().data)
    return sha256.hexdigest()


def _not_an_export(path: Path, found: str) -> Problem:
    return Problem(
        where=str(path),
        what="is missing" if not path.is_file() else "is damaged or is not an exported model",
        expected="a file that l2reg export wrote",
        found=found,
        remedy="restore the file, or export the run again",
    )
