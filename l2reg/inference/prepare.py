"""From a config or a checkpoint to a method, before any data is opened."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from l2reg.checkpoints.trained_model import TrainedModel, load_trained_model
from l2reg.config.build import build
from l2reg.config.presets import load_preset
from l2reg.config.task_nodes import node_name
from l2reg.inference.method import Method
from l2reg.optimisation.refinement import Refinement
from l2reg.problems import InputError, Problem
from l2reg.runtime import autocast, select_device

OWN_KEYS = ("ckpt", "split", "out", "precision", "save", "device", "overwrite", "rules")


@dataclass(frozen=True)
class PreparedMethod:
    """A method, and what it was prepared from.

    Attributes:
        method: Ready to run, on its device.
        config: Nodes of the task, the model and the data: a checkpoint's, or those given.
        trained: The checkpoint's model, if the method was trained.
    """

    method: Method
    config: Mapping[str, Any]
    trained: TrainedModel | None


def prepare_method(config: Mapping[str, Any], overrides: Sequence[str]) -> PreparedMethod:
    """Build a method, its model from a checkpoint if one is given. No data is opened.

    Args:
        config: As ``configs/predict.yaml`` composes it, resolved.
        overrides: Keys that the command line gave. With a checkpoint they alone are taken from
            ``config``; the rest is as the checkpoint was trained.

    Raises:
        InputError: For whatever is wrong with options or checkpoint.
    """
    device = select_device(config["device"])
    autocast(device, config["precision"])  # refuses an unknown one
    trained = None
    if config["ckpt"] is not None:
        named = Path(config["ckpt"])
        task = node_name(config["task"]) if config.get("task") else None
        trained = load_trained_model(named, _apply_overrides(config, overrides), task)
        _check_same_task(config, trained.config, named)
    base = dict(config) if trained is None else trained.config
    model = _without_training(config) if trained is None else trained.model
    refinement = _refinement(config, base)
    method = Method(model.to(device), refinement, device, config["precision"])
    return PreparedMethod(method, base, trained)


def training_free_method(task: str, device: torch.device) -> Method:
    """Return the method that needs no training: ``model=convex``, refined as for a task.

    Raises:
        InputError: If there are no settings for the task.
    """
    return Method(build(load_preset("model", "convex")), task_refinement(task), device)


def task_refinement(task: str) -> Refinement:
    """Return the refinement that ``refine=gauss_newton`` is for a task.

    Raises:
        InputError: If there are no settings for it.
    """
    settings = load_preset("task_refine", f"{task}_gauss_newton")["refine"]
    refine: Refinement = build({**load_preset("refine", "gauss_newton"), **settings})
    return refine


def _refinement(config: Mapping[str, Any], base: Mapping[str, Any]) -> Refinement | None:
    if not config.get("refine"):
        return None
    if config.get("task") is None:
        raise InputError(
            Problem(
                where="refine=...",
                what="depends on the task",
                expected="task=..., the task of the checkpoint",
                found="no task",
                remedy=f"add task={node_name(base['task'])}",
            )
        )
    refinement: Refinement = build(config["refine"])
    return refinement


def _apply_overrides(config: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return the values of the data and task keys given, by dotted key; refuse what cannot act."""
    values = {}
    for key in overrides:
        if key.startswith(("data.", "task.")):
            node: Any = config
            for part in key.split("."):
                node = node[part]
            values[key] = node
        elif key not in (*OWN_KEYS, "task", "refine") and not key.startswith("refine."):
            raise InputError(
                Problem(
                    where=f"{key}=...",
                    what="cannot be changed together with ckpt=",
                    expected=f"data.*, task.*, refine.* or one of {', '.join(OWN_KEYS)}",
                    found=key,
                    remedy="leave it out: the checkpoint knows its model and its losses",
                )
            )
    return values


def _check_same_task(config: Mapping[str, Any], trained: Mapping[str, Any], named: Path) -> None:
    if config.get("task") is None:
        return
    asked, known = node_name(config["task"]), node_name(trained["task"])
    if asked != known:
        raise InputError(
            Problem(
                where=f"ckpt={named}",
                what="was trained for another task",
                expected=f"task={asked}",
                found=f"task={known}",
                remedy="leave task= out, or name a checkpoint of that task",
            )
        )


def _without_training(config: Mapping[str, Any]) -> torch.nn.Module:
    if config.get("model") is None or config.get("task") is None:
        given = {key: config.get(key) is not None for key in ("ckpt", "model", "task")}
        raise InputError(
            Problem(
                where="predict.py",
                what="does not know what to predict with",
                expected="ckpt=RUN, or model=... and task=...",
                found=", ".join(
                    f"{key} {'given' if yes else 'missing'}" for key, yes in given.items()
                ),
                remedy="predict.py ckpt=runs/lung_unet, or predict.py model=zero task=lung",
            )
        )
    model: torch.nn.Module = build(config["model"])
    if any(True for _ in model.parameters()):
        raise InputError(
            Problem(
                where=f"model={node_name(config['model'])}",
                what="needs to be trained first",
                expected="ckpt=RUN, the folder of its training run",
                found="no ckpt",
                remedy="train.py task=... model=..., then predict.py ckpt=runs/<task>_<model>",
            )
        )
    return model
