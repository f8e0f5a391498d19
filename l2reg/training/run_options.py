"""Options of a training run: what is wrong whatever the data are, told before these are read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from l2reg.config.build import build, check_targets
from l2reg.config.task_nodes import task_nodes
from l2reg.models.activation_checkpointing import recompute_activations
from l2reg.problems import InputError, Problem, check_seed_value, raise_if_any
from l2reg.runtime import autocast
from l2reg.training.box_size import box_problems
from l2reg.training.distributed import is_first
from l2reg.training.run_folder import check_run_folder
from l2reg.training.trackers import check_trackers
from l2reg.training.trainer import TrainerSettings
from l2reg.training.warm_start import check_warm_start


def check_options(config: Mapping[str, Any]) -> None:
    """Check the options of a run before scans are read or phantoms made.

    Args:
        config: See ``setup.prepare_training``; tasks of one's own data may lack what is planned.

    Raises:
        InputError: If an option is incorrect.
    """
    settings = training_settings(config)
    check_trackers(config["track"])
    autocast(torch.device("cpu"), settings.precision)  # raises if it is unknown
    check_seed_value("seed", config["seed"])
    trust, nodes = config["trust"], task_nodes(config)
    losses = {name: build(node["loss"], "loss", trust) for name, node in nodes.items()}
    for node in nodes.values():
        for key in ("task", "data"):
            check_targets(node[key], key, trust)
    if is_first():
        run_dir = Path(config["run_dir"])
        check_run_folder(run_dir, resume=config["resume"], overwrite=config["overwrite"])
    model = build_network(config)
    raise_if_any(
        dict.fromkeys(
            problem
            for name, node in nodes.items()
            for problem in box_problems(node["data"].get("crop"), model, losses[name])
        )
    )
    build(config["optimizer"], "optimizer", trust, params=model.parameters())
    build(config["scheduler"], "scheduler", trust)
    if config["init_from"] is not None and not config["resume"]:
        check_warm_start(model, Path(config["init_from"]))


def training_settings(config: Mapping[str, Any]) -> TrainerSettings:
    """Return the settings of the training loop of a run.

    Raises:
        InputError: If a value is incorrect.
    """
    settings: TrainerSettings = build(config["trainer"], "trainer")
    if config["mixed"] and settings.patience is not None:
        raise InputError(_no_one_score(settings.patience))
    return settings


def build_network(config: Mapping[str, Any]) -> torch.nn.Module:
    """Return the network of a run, with new weights.

    Raises:
        InputError: If its node is incorrect, or it has no weights.
    """
    model: torch.nn.Module = build(config["model"], "model", config["trust"])
    if config["trainer"]["activation_checkpointing"]:
        recompute_activations(model)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InputError(_nothing_to_learn(config))
    return model


def _no_one_score(patience: int) -> Problem:
    return Problem(
        where=f"trainer.patience={patience}",
        what="needs one score, and mixed tasks have one each",
        expected="null for task=mixed",
        found=f"{patience} with task=mixed",
        remedy="leave it out, or train the tasks one by one",
    )


def _nothing_to_learn(config: Mapping[str, Any]) -> Problem:
    name = config["model"]["_target_"]
    return Problem(
        where=f"model {name}",
        what="has nothing to train",
        expected="a network with parameters",
        found="none",
        remedy="use it without training: l2reg predict model=... task=...",
    )
