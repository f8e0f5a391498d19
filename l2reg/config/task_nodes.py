"""Config nodes of each task of a run, which may mix several tasks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from l2reg.problems import InputError, Problem


def task_nodes(config: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """Return for every task of a run its nodes ``task``, ``data`` and ``loss``, by task name.

    A run of a single task has one entry, whose name is empty.
    """
    if config.get("mixed"):
        tasks: Mapping[str, Mapping[str, Any]] = config["mixed"]["tasks"]
        return tasks
    return {"": config}


def single_task_config(config: Mapping[str, Any], name: str | None) -> dict[str, Any]:
    """Return the config of a run, reduced to one of its tasks.

    Args:
        config: Config of the run; without mixed tasks it is returned unchanged.
        name: Name of the task; required for mixed tasks.

    Raises:
        InputError: If the run has mixed tasks and the name is missing or unknown.
    """
    if not config.get("mixed"):
        return dict(config)
    tasks = task_nodes(config)
    if name is None or name not in tasks:
        found = f"task={name}" if name else "no task"
        expected = "one of " + ", ".join(f"task={task}" for task in tasks)
        remedy = f"add task={next(iter(tasks))}, or another of these tasks"
        where = "a checkpoint of mixed tasks"
        raise InputError(
            Problem(
                where=where,
                what="needs to know the task",
                expected=expected,
                found=found,
                remedy=remedy,
            )
        )
    return {**config, **tasks[name], "mixed": None}


def check_mixed_tasks(names: Sequence[str], known: Sequence[str]) -> None:
    """Check the list of tasks to mix.

    Args:
        names: Names of the tasks, from ``mixed.only``.
        known: Names of all tasks.

    Raises:
        InputError: If the list is empty, has an unknown name, or has a name twice.
    """
    if names and set(names) <= set(known) and len(set(names)) == len(names):
        return
    expected = f"different tasks out of {', '.join(known)}"
    found = ", ".join(names) or "none"
    raise InputError(
        Problem(
            where="mixed.only",
            what="cannot be mixed",
            expected=expected,
            found=found,
            remedy="mixed.only=[abdomen,lung,oasis]",
        )
    )


def prediction_keys(config: Mapping[str, Any], weights: Path | str) -> str:
    """Return the keys with which ``l2reg predict`` uses the weights of a run.

    Args:
        config: Config of the run.
        weights: Folder of the run or of its exported model.
    """
    if config.get("mixed"):
        return f"ckpt={weights} task=..."
    if config["task"] is None:  # descriptors, which are features of a method
        return f"task=... model=convex_learned model.features.learned.weights={weights}"
    return f"ckpt={weights}"


def node_name(node: Mapping[str, Any]) -> str:
    """Return the name of a task or model node: its key ``name``, else the module of its target."""
    return str(node.get("name") or node["_target_"].split(".")[-2])
