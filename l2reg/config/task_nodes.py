"""Config nodes of one task of a run, which may be a run of several tasks."""

from collections.abc import Mapping, Sequence
from typing import Any

from l2reg.problems import InputError, Problem


def task_nodes(config: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """Return the nodes ``task``, ``data`` and ``loss`` of every task of a run, by its name."""
    if config.get("mixed"):
        tasks: Mapping[str, Mapping[str, Any]] = config["mixed"]["tasks"]
        return tasks
    return {"": config}


def single_task_config(config: Mapping[str, Any], name: str | None) -> dict[str, Any]:
    """Return the config of a run as if it had been of one task alone.

    Args:
        config: Of a run, mixed or not; one that is not mixed is returned as it is.
        name: Which task of a mixed run.

    Raises:
        InputError: If the run is mixed and has no such task.
    """
    if not config.get("mixed"):
        return dict(config)
    tasks = task_nodes(config)
    if name is None or name not in tasks:
        found = f"task={name}" if name else "no task"
        expected = "one of " + ", ".join(f"task={task}" for task in tasks)
        remedy = f"add task={next(iter(tasks))}, or another of these"
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


def check_mixed_tasks(only: Sequence[str], known: Sequence[str]) -> None:
    """Refuse a list of tasks that cannot be mixed.

    Args:
        only: What ``mixed.only`` names.
        known: Tasks there are.

    Raises:
        InputError: If it is empty, or a name is unknown or stands there twice.
    """
    if only and set(only) <= set(known) and len(set(only)) == len(only):
        return
    expected = f"different tasks out of {', '.join(known)}"
    found = ", ".join(only) or "none"
    raise InputError(
        Problem(
            where="mixed.only",
            what="cannot be mixed",
            expected=expected,
            found=found,
            remedy="mixed.only=[abdomen,lung,oasis]",
        )
    )


def node_name(node: Mapping[str, Any]) -> str:
    """Return the name of a task or model node: its own, or that of its module."""
    return str(node.get("name") or node["_target_"].split(".")[-2])
