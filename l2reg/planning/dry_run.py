"""Dry run: memory and time of one training step, taken for real and thrown away."""

import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import yaml

from l2reg.config.build import build
from l2reg.config.presets import config_dir, load_preset
from l2reg.models.prediction import grid_of
from l2reg.own_data.dataset import OwnDataset
from l2reg.planning.plan import Plan
from l2reg.problems import InputError, Problem
from l2reg.runtime import configure_convolutions
from l2reg.training.seeding import seed_everything
from l2reg.training.trainer import Trainer, TrainerSettings

_GB = 1e9
_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes of ru_maxrss


@dataclass(frozen=True)
class StepCost:
    """Cost of a training step.

    Attributes:
        device: Device that it was taken on.
        seconds: Time of the step itself.
        reading_seconds: Time to read and augment a pair, which the step overlaps with; later
            readings of the same scans are from the cache.
        memory_bytes: Memory of the device at its peak; on a CPU that of the process.
        n_parameters: Number of weights of the network.
        max_steps: Number of steps of a run.
    """

    device: str
    seconds: float
    reading_seconds: float
    memory_bytes: float
    n_parameters: int
    max_steps: int

    def __str__(self) -> str:
        hours = self.seconds * self.max_steps / 3600
        return (
            f"one step on {self.device}: {self.seconds:.2f} s and {self.memory_bytes / _GB:.2f} GB "
            f"({self.n_parameters:,} weights; a pair is read in {self.reading_seconds:.2f} s at "
            f"first); {self.max_steps} steps take about {hours:.1f} h"
        )


def measure_step(data: OwnDataset, plan: Plan, device: torch.device) -> StepCost:
    """Return the cost of one training step with the proposed settings.

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
    model = build(load_preset("model", plan.model) | dict(plan.width)).to(device)
    objective = build(_objective_node(plan.loss))
    batches = replace(data, cache=None).batches(
        grid_of(model), items=range(settings.batch_size), seed=0, device=device
    )
    optimizer = build(load_preset("optimizer", "adamw"), params=model.parameters())
    schedule = build(load_preset("scheduler", "cosine"))
    trainer = Trainer(model, objective, optimizer, schedule, batches, settings)
    begin = time.perf_counter()
    batch = batches[0]
    read_at = time.perf_counter()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    try:
        trainer.train_step(batch)  # ends with values on the host: the device has finished
    except torch.OutOfMemoryError as error:
        raise InputError(_too_large(plan, device)) from error
    done_at = time.perf_counter()
    return StepCost(
        device=device.type,
        seconds=done_at - read_at,
        reading_seconds=read_at - begin,
        memory_bytes=_peak_bytes(device),
        n_parameters=sum(p.numel() for p in model.parameters()),
        max_steps=settings.max_steps,
    )


def _peak_bytes(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT)


def _objective_node(loss: str) -> dict[str, Any]:
    """Return the node of a loss as ``train.py`` composes it for ``task=own``."""
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


def _too_large(plan: Plan, device: torch.device) -> Problem:
    n_voxels = plan.shape[0] * plan.shape[1] * plan.shape[2]
    return Problem(
        where=f"a training step on {device}",
        what="does not fit the memory",
        expected="a grid that fits",
        found=f"{' x '.join(map(str, plan.shape))} voxels, {n_voxels:,}",
        remedy=f"--max-voxels {n_voxels // 2}",
    )
