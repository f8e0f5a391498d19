"""Method preparation: build a method from a config or a checkpoint, before any data are opened."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from l2reg.checkpoints.trained_model import TrainedModel, load_trained_model
from l2reg.config.build import build
from l2reg.config.presets import load_preset, preset_names
from l2reg.config.task_nodes import node_name
from l2reg.inference.method import Method
from l2reg.optimisation.refinement import Refinement
from l2reg.problems import InputError, Problem
from l2reg.runtime import autocast, configure_convolutions, select_device

OWN_KEYS = ("ckpt", "split", "out", "smoothness", "precision", "save", "device", "overwrite",
            "rules", "trust", "report")  # fmt: skip


@dataclass(frozen=True)
class PreparedMethod:
    """A method, with the config or checkpoint that it was built from.

    Attributes:
        method: The method, on its device.
        config: The nodes of task, model and data: those of the checkpoint, else those given; and
            ``trust``, which is always the one given.
        trained: The trained model, or ``None`` for a method without training.
    """

    method: Method
    config: Mapping[str, Any]
    trained: TrainedModel | None


def prepare_method(config: Mapping[str, Any], overrides: Sequence[str]) -> PreparedMethod:
    """Build a method, with its model from a checkpoint if ``ckpt`` is set. No data are opened.

    Args:
        config: The resolved config that ``configs/predict.yaml`` composes.
        overrides: The keys given on the command line. With a checkpoint only their values are taken
            from ``config``; all others are those of the training run.

    Raises:
        InputError: If options or checkpoint are incorrect.
    """
    device = select_device(config["device"])
    autocast(device, config["precision"])  # raises if the precision is unknown
    configure_convolutions(config["precision"], repeated=False)
    trained = None
    if config["ckpt"] is not None:
        checkpoint = Path(config["ckpt"])
        task = node_name(config["task"]) if config.get("task") else None
        trained = load_trained_model(
            checkpoint, _apply_overrides(config, overrides), task, config["trust"]
        )
        _check_same_task(config, trained.config, checkpoint)
    elif config["smoothness"] is not None:
        raise InputError(_no_checkpoint(config["smoothness"]))
    base = dict(config) if trained is None else trained.config
    model = _training_free_model(config) if trained is None else trained.model
    refinement = _refinement(config, base)
    method = Method(model.to(device), refinement, device, config["precision"])
    return PreparedMethod(method, base, trained)


def training_free_method(task: str, device: torch.device) -> Method:
    """Return the method without training: ``model=convex`` with its refinement, as for a task.

    Raises:
        InputError: If there are no settings of the refinement for the task.
    """
    model = load_preset("model", "convex")
    if (settings := f"{task}_convex") in preset_names("task_model"):
        model |= load_preset("task_model", settings)["model"]
    return Method(build(model), task_refinement(task), device)


def task_refinement(task: str) -> Refinement:
    """Return the refinement ``refine=gauss_newton`` with the settings of a task.

    Raises:
        InputError: If there are no settings for the task.
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
    refinement: Refinement = build(config["refine"], "refine", config["trust"])
    return refinement


def _apply_overrides(config: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return the values of the overridden keys of the run's config, by dotted key.

    These are ``data.*``, ``task.*`` and, for ``smoothness``, ``model.smoothness``.

    Raises:
        InputError: If a key is overridden that the checkpoint determines.
    """
    values: dict[str, Any] = {}
    if config["smoothness"] is not None:
        values["model.smoothness"] = config["smoothness"]
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
                    remedy="leave it out: the checkpoint determines the model and the losses",
                )
            )
    return values


def _no_checkpoint(smoothness: object) -> Problem:
    return Problem(
        where=f"smoothness={smoothness}",
        what="is an input of trained networks",
        expected="ckpt=RUN, a run of model=clapirn",
        found="no ckpt",
        remedy="leave it out, or name a run",
    )


def _check_same_task(
    config: Mapping[str, Any], trained: Mapping[str, Any], checkpoint: Path
) -> None:
    if config.get("task") is None:
        return
    requested, actual = node_name(config["task"]), node_name(trained["task"])
    if requested != actual:
        raise InputError(
            Problem(
                where=f"ckpt={checkpoint}",
                what="was trained for another task",
                expected=f"task={requested}",
                found=f"task={actual}",
                remedy="leave task= out, or name a checkpoint of that task",
            )
        )


def _training_free_model(config: Mapping[str, Any]) -> torch.nn.Module:
    if config.get("model") is None or config.get("task") is None:
        is_set = {key: config.get(key) is not None for key in ("ckpt", "model", "task")}
        raise InputError(
            Problem(
                where="l2reg predict",
                what="has no method to predict with",
                expected="ckpt=RUN, or model=... and task=...",
                found=", ".join(
                    f"{key} {'given' if is_given else 'missing'}"
                    for key, is_given in is_set.items()
                ),
                remedy="l2reg predict ckpt=runs/lung_unet, or l2reg predict model=zero task=lung",
            )
        )
    model: torch.nn.Module = build(config["model"], "model", config["trust"])
    if any(True for _ in model.parameters()):
        raise InputError(
            Problem(
                where=f"model={node_name(config['model'])}",
                what="needs to be trained first",
                expected="ckpt=RUN, the folder of its training run",
                found="no ckpt",
                remedy="l2reg train task=... model=..., then l2reg predict ckpt=RUN",
            )
        )
    return model
