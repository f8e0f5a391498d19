"""Dry run: memory and time of one training step, taken for real and thrown away."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import yaml

from l2reg.config.build import build
from l2reg.config.presets import config_dir, load_preset
from l2reg.models.prediction import grid_of
from l2reg.own_data.dataset import OwnDataset
from l2reg.planning.plan import Plan
from l2reg.runtime import configure_convolutions
from l2reg.training.seeding import seed_everything
from l2reg.training.step_cost import measure_step
from l2reg.training.trainer import Trainer, TrainerSettings
from l2reg.wording import quantity

_GB = 1e9


def describe_step(data: OwnDataset, plan: Plan, device: torch.device) -> str:
    """Take one training step with the proposed settings, and return its cost in words.

    Args:
        data: The data set, with the task of the plan; nothing is cached.
        plan: The plan.
        device: Device to train on.

    Raises:
        InputError: If the memory of the device is too small, or a file is unreadable.
    """
    seed_everything(0)
    settings: TrainerSettings = build(load_preset("trainer", "default"))
    configure_convolutions(settings.precision, repeated=True)
    model = build(load_preset("model", plan.model) | plan.network).to(device)
    objective = build(_objective_node(plan.loss))
    batches = replace(data, cache=None).batches(
        grid_of(model), items=range(settings.batch_size), seed=0, device=device
    )
    optimizer = build(load_preset("optimizer", "adamw"), params=model.parameters())
    schedule = build(load_preset("scheduler", "cosine"))
    cost = measure_step(Trainer(model, objective, optimizer, schedule, batches, settings))
    return (
        f"one step on {device.type}: {cost.seconds:.2f} s and {cost.memory_bytes / _GB:.2f} GB "
        f"({cost.n_parameters:,} weights; a pair is read in {cost.reading_seconds:.2f} s at "
        f"first); {quantity(settings.max_steps, 'step')} take about "
        f"{cost.seconds * settings.max_steps / 3600:.1f} h. With less memory: --max-voxels N"
    )


def _objective_node(loss: str) -> dict[str, Any]:
    """Return the node of a loss as ``l2reg train`` composes it for ``task=own``."""
    terms = (config_dir() / "loss_terms.yaml").read_text(encoding="utf-8")
    node: dict[str, Any] = yaml.safe_load(terms)
    task = yaml.safe_load((config_dir() / "task/own.yaml").read_text(encoding="utf-8"))["loss"]
    for layer in (load_preset("loss", loss), task):
        node = _merge(node, {key: value for key, value in layer.items() if key != "defaults"})
    return node


def _merge(node: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(node)
    for key, value in other.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if both else value
    return merged
