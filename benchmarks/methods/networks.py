"""What the benchmarks of networks share: compose a run, and train it in a process of its own."""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import nn

from l2reg.config.build import build
from l2reg.config.presets import config_dir
from l2reg.runtime import select_device
from l2reg.training.setup import prepare_training

NETWORKS = ["unet", "monai_segresnet", "siamese_unet", "lapirn", "vfa", "sitreg", "pyramid"]


@dataclass(frozen=True)
class Trained:
    """A model, how its loss is computed, and the seconds that a training step took."""

    model: nn.Module
    objective: nn.Module
    step_s: float


def in_own_process(measured: Callable[..., dict[str, float]], *given: Any) -> dict[str, float]:
    """Return ``measured(*given)`` from a new process, whose peak memory is its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as process:
        return process.submit(measured, *given).result()


def composed(model: str, run_dir: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Return what train.py would be given, without validation in between."""
    options = [f"model={model}", f"run_dir={run_dir}", "trainer.validate_every=0"]
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose("train", overrides=[*options, *overrides])
    plain: Any = OmegaConf.to_container(config, resolve=True)
    return dict(plain)


def trained(config: dict[str, Any]) -> Trained:
    """Train the network of a config; a model that has nothing to train is built alone."""
    model: nn.Module = build(config["model"])
    if not any(True for _ in model.parameters()):
        return Trained(model.to(select_device(config["device"])), build(config["loss"]), 0.0)
    trainer = prepare_training(config)
    begin = time.perf_counter()
    trainer.run()
    step_s = (time.perf_counter() - begin) / config["trainer"]["max_steps"]
    return Trained(trainer.model, trainer.objective, step_s)


def table(titles: Sequence[str], rows: Sequence[str]) -> str:
    """Return a markdown table of rows that are lines already."""
    return "\n".join(["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles), *rows])
