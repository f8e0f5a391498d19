"""What registers the pairs of one task, put together from its config before any data is opened."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from l2reg.config import build
from l2reg.data.cases import Pair
from l2reg.data.reader import Grid, PairReader
from l2reg.engine.rebuild import Rebuilt, rebuild
from l2reg.inference.device import autocast, pick_device
from l2reg.inference.predictor import Predictor, Refinement
from l2reg.models.prediction import grid_of
from l2reg.optimise.refine import Refine
from l2reg.problems import InputError, Problem

OWN_KEYS = ("ckpt", "split", "out", "precision", "save", "device", "overwrite", "format")


@dataclass(frozen=True)
class Method:
    """A model and what refines its fields.

    Attributes:
        config: Nodes of the task, the model and the data: a checkpoint's, or those given.
        model: On its device.
        refine: What makes the model's field better, if anything does.
        device: Where to compute.
        precision: Of the network.
        rebuilt: The checkpoint, if the model was trained.
    """

    config: Mapping[str, Any]
    model: torch.nn.Module
    refine: Refine | None
    device: torch.device
    precision: str
    rebuilt: Rebuilt | None

    def predictor(
        self,
        reader: Callable[[Grid | Sequence[int]], PairReader],
        given: Callable[[Pair], Pair] = Pair.images_only,
    ) -> Predictor:
        """Return what registers pairs.

        Args:
            reader: Returns what puts a pair on a grid.
            given: Returns what a refinement that compares labels may read of a pair.
        """
        refinement = None
        if self.refine is not None:
            seen = given if self.refine.labels > 0 else Pair.images_only
            refinement = Refinement(self.refine, reader(self.refine.grid), seen)
        working = reader(grid_of(self.model))
        return Predictor(self.model, working, self.device, self.precision, refinement)


def prepare_method(config: Mapping[str, Any], overridden: Sequence[str]) -> Method:
    """Build the model, from its checkpoint if there is one.

    Args:
        config: As ``configs/predict.yaml`` composes it, resolved.
        overridden: Keys that the command line gave. With a checkpoint they alone are taken from
            ``config``; the rest is as the checkpoint was trained.

    Raises:
        InputError: For whatever is wrong with options or checkpoint.
    """
    device = pick_device(config["device"])
    autocast(device, config["precision"])  # refuses an unknown one
    rebuilt = None
    if config["ckpt"] is not None:
        named = Path(config["ckpt"])
        task = name_of(config["task"]) if config.get("task") else None
        rebuilt = rebuild(named, _laid_over(config, overridden), task)
        _check_same_task(config, rebuilt.config, named)
    base = dict(config) if rebuilt is None else rebuilt.config
    model = _without_training(config) if rebuilt is None else rebuilt.model
    refine = _refine(config, base)
    return Method(base, model.to(device), refine, device, config["precision"], rebuilt)


def name_of(node: Mapping[str, Any]) -> str:
    """Return the name of a task or model node: its own, or that of its module."""
    return str(node.get("name") or node["_target_"].split(".")[-2])


def _refine(config: Mapping[str, Any], base: Mapping[str, Any]) -> Refine | None:
    if not config.get("refine"):
        return None
    if config.get("task") is None:
        raise InputError(
            Problem(
                where="refine=...",
                what="depends on the task",
                expected="task=..., the task of the checkpoint",
                found="no task",
                remedy=f"add task={name_of(base['task'])}",
            )
        )
    refine: Refine = build(config["refine"])
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
    asked, known = name_of(config["task"]), name_of(trained["task"])
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
                where=f"model={name_of(config['model'])}",
                what="needs to be trained first",
                expected="ckpt=RUN, the folder of its training run",
                found="no ckpt",
                remedy="train.py task=... model=..., then predict.py ckpt=runs/<task>_<model>",
            )
        )
    return model
