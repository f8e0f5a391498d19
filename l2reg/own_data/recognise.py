"""Whether a command is to work on one's own data, told without importing what that needs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from l2reg.checkpoints.run_checkpoints import load_checkpoint
from l2reg.config.task_nodes import single_task_config
from l2reg.problems import InputError, Problem

_TARGET = "l2reg.own_data.dataset.OwnDataset"


def is_own_data(config: Mapping[str, Any]) -> bool:
    """Return whether ``l2reg predict`` is to register one's own data: those of its run or its task.

    Args:
        config: The resolved config that ``configs/predict.yaml`` composes.

    Raises:
        InputError: If its checkpoint is missing or damaged.
    """
    if config["ckpt"] is not None:
        state = load_checkpoint(Path(config["ckpt"])).state
        task = config["task"]["name"] if config.get("task") else None
        config = single_task_config(state["config"], task)
    return bool(config["data"]["_target_"] == _TARGET)


def refuse_own_data(config: Mapping[str, Any]) -> None:
    """Raise ``InputError`` if ``l2reg evaluate`` is to score one's own data.

    Args:
        config: The resolved config that ``configs/evaluate.yaml`` composes.
    """
    if config["data"]["_target_"] != _TARGET:
        return
    raise InputError(
        Problem(
            where="l2reg evaluate task=own",
            what="has no submission to score",
            expected="a task of the challenge",
            found="data of one's own",
            remedy="read the scores of labels and points in results.csv of `l2reg predict`; or "
            "score any transform in Python: l2reg.evaluate(transform, fixed, moving)",
        )
    )
