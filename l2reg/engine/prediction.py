"""Put a prediction together from its config: a checkpoint's, or a model that needs no training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from l2reg.config import build
from l2reg.data.cases import Pair
from l2reg.data.check import check_pairs
from l2reg.data.dataset import Dataset
from l2reg.engine.rebuild import rebuild
from l2reg.files import fresh_folder, written_whole
from l2reg.inference.device import autocast, pick_device
from l2reg.inference.extras import check_extras
from l2reg.inference.predictor import Predictor, Refinement
from l2reg.models.prediction import grid_of
from l2reg.problems import InputError, Problem, raise_if_any

CONFIG = "config.yaml"  # marks a folder that may be overwritten
OWN_KEYS = ("ckpt", "split", "out", "precision", "save", "device", "overwrite")


@dataclass(frozen=True)
class Job:
    """A prediction that is ready to run.

    Attributes:
        predictor: Model and reader.
        pairs: Checked pairs of the split.
        out: Empty folder to write to.
        notes: What somebody who reads the scores has to know.
    """

    predictor: Predictor
    pairs: list[Pair]
    out: Path
    notes: list[str] = field(default_factory=list)


def prepare_prediction(config: Mapping[str, Any], overridden: Sequence[str]) -> Job:
    """Check everything, then build a predictor.

    Args:
        config: As ``configs/predict.yaml`` composes it, resolved.
        overridden: Keys that the command line gave. With a checkpoint they alone are taken from
            ``config``; the rest is as the checkpoint was trained.

    Raises:
        InputError: For whatever is wrong with options, checkpoint, data or the output folder.
    """
    check_extras(config["save"])
    device = pick_device(config["device"])
    autocast(device, config["precision"])  # refuses an unknown one
    split = config["split"]
    if config["ckpt"] is not None:
        named = Path(config["ckpt"])
        rebuilt = rebuild(named, _laid_over(config, overridden))
        _check_same_task(config, rebuilt.config, named)
        base, model = rebuilt.config, rebuilt.model
        folder = named if named.is_dir() else named.parent
        out = Path(config["out"] or folder / f"predict_{split}")
    else:
        base, model = dict(config), _without_training(config)
        name = f"{_name(config['model'])}_{_name(config['task'])}_{split}"
        out = Path(config["out"] or Path("out") / name)
    data: Dataset = build(base["data"], task=build(base["task"]))
    pairs = data.listed(split)
    raise_if_any(check_pairs(pairs, data.release.task, data.volumes, prealign=data.prealign))
    timed = replace(data, cache=None)  # from the file on
    refinement = _refinement(config, timed)
    fresh_folder(out, marker=CONFIG, overwrite=config["overwrite"])
    shown = {key: config[key] for key in OWN_KEYS} | {k: base[k] for k in ("task", "model", "data")}
    shown["refine"] = config.get("refine") or "none"
    with written_whole(out / CONFIG) as draft:
        draft.write_text(yaml.safe_dump(shown, sort_keys=False), encoding="utf-8")
    reader = timed.reader(grid_of(model))
    predictor = Predictor(model.to(device), reader, device, config["precision"], refinement)
    notes = rebuilt.notes(pairs) if config["ckpt"] is not None else []
    return Job(predictor, pairs, out, notes)


def _refinement(config: Mapping[str, Any], data: Dataset) -> Refinement | None:
    if not config.get("refine"):
        return None
    if config.get("task") is None:
        raise InputError(
            Problem(
                where="refine=...",
                what="depends on the task",
                expected="task=..., the task of the checkpoint",
                found="no task",
                remedy=f"add task={data.release.task.name}",
            )
        )
    refine = build(config["refine"])
    return Refinement(refine, data.reader(refine.grid))


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
    asked, known = _name(config["task"]), _name(trained["task"])
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
                where=f"model={_name(config['model'])}",
                what="needs to be trained first",
                expected="ckpt=RUN, the folder of its training run",
                found="no ckpt",
                remedy="train.py task=... model=..., then predict.py ckpt=runs/<task>_<model>",
            )
        )
    return model


def _name(node: Mapping[str, Any]) -> str:
    """Return the name of a task or model node: its own, or that of its module."""
    return str(node.get("name") or node["_target_"].split(".")[-2])
