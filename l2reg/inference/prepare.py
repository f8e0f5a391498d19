"""From configs to methods."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from l2reg.checkpoints.trained_model import load_trained_model
from l2reg.config.build import build
from l2reg.config.presets import load_preset
from l2reg.config.task_nodes import node_name
from l2reg.data.dataset import Dataset
from l2reg.inference.method import Method
from l2reg.inference.predictor import PairRefinement, Predictor
from l2reg.models.prediction import grid_of
from l2reg.optimisation.refinement import Refinement
from l2reg.problems import InputError, Problem
from l2reg.runtime import autocast, select_device


def task_refinement(task: str) -> Refinement:
    """Return the refinement that ``refine=gauss_newton`` is for a task.

    Raises:
        InputError: If there are no settings for it.
    """
    settings = load_preset("task_refine", f"{task}_gauss_newton")["refine"]
    refine: Refinement = build({**load_preset("refine", "gauss_newton"), **settings})
    return refine


OWN_KEYS = ("ckpt", "split", "out", "precision", "save", "device", "overwrite", "format")


def prepare_method(config: Mapping[str, Any], overridden: Sequence[str]) -> Method:
    """Build the model, from its checkpoint if there is one.

    Args:
        config: As ``configs/predict.yaml`` composes it, resolved.
        overridden: Keys that the command line gave. With a checkpoint they alone are taken from
            ``config``; the rest is as the checkpoint was trained.

    Raises:
        InputError: For whatever is wrong with options or checkpoint.
    """
    device = select_device(config["device"])
    autocast(device, config["precision"])  # refuses an unknown one
    rebuilt = None
    if config["ckpt"] is not None:
        named = Path(config["ckpt"])
        task = node_name(config["task"]) if config.get("task") else None
        rebuilt = load_trained_model(named, _laid_over(config, overridden), task)
        _check_same_task(config, rebuilt.config, named)
    base = dict(config) if rebuilt is None else rebuilt.config
    model = _without_training(config) if rebuilt is None else rebuilt.model
    refine = _refine(config, base)
    return Method(base, model.to(device), refine, device, config["precision"], rebuilt)


def _refine(config: Mapping[str, Any], base: Mapping[str, Any]) -> Refinement | None:
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
    refine: Refinement = build(config["refine"])
    return refine


def _laid_over(config: Mapping[str, Any], overridden: Sequence[str]) -> dict[str, Any]:
    """Return the values of the data and task keys given, by dotted key; refuse what cannot act."""
    values = {}
    for key in overridden:
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


def training_free_predictor(data: Dataset, device: torch.device) -> Predictor:
    """Return the predictor that needs no training: ``model=convex``, refined as for the task."""
    model = build(load_preset("model", "convex"))
    refine = task_refinement(data.task.name)
    refinement = PairRefinement(refine, data.reader(refine.grid))
    return Predictor(model, data.reader(grid_of(model)), device, "float32", refinement)
