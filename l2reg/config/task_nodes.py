"""Config nodes of each task of a run, which may mix several tasks."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from l2reg.config.presets import load_preset
from l2reg.problems import InputError, Problem, raise_if_any

SCAN_CHANNELS = "scan_channels"  # key of a network's node, where it takes several
_OWN = "own"  # task of the user's own scans
_DATA = re.compile(r"[+~]{0,2}data\.(\w+)")


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


def overrides_by_task(overrides: Sequence[str], names: Sequence[str]) -> dict[str, list[str]]:
    """Return for each task of a mixed run the settings of the command that it takes.

    They are the same but for those of ``data``, if the user's own scans are among the tasks: these
    take the list of pairs, which holds scans of one task, and what the other tasks have no key for,
    and the others what own scans have no key for.

    Args:
        overrides: Settings of the command, such as ``seed=1``.
        names: Names of the tasks.

    Raises:
        InputError: If a list of pairs is given and the user's own scans are not among the tasks.
    """
    shared = [text for text in overrides if not text.startswith(("task=", "mixed."))]
    own = [text for text in shared if _data_key(text) == "pairs"]
    if own and _OWN not in names:
        raise InputError(
            Problem(
                where=f"{own[-1]} with task=mixed",
                what="would be the list of every task",
                expected="a list for the one task whose scans it names",
                found=", ".join(names),
                remedy="leave it out, as every task has a list of its own; or train on one task: "
                f"task={names[0]} {own[-1]}",
            )
        )
    if _OWN not in names or len(names) == 1:
        return dict.fromkeys(names, shared)
    of_own, of_others = (load_preset("data", name).keys() for name in (_OWN, "default"))
    not_others = {*(of_own - of_others), "pairs"}
    return {
        name: [
            text
            for text in shared
            if _data_key(text) not in (of_others - of_own if name == _OWN else not_others)
        ]
        for name in names
    }


def own_exclusions(entries: Any, task: str, names: Sequence[str]) -> list[str]:
    """Return the entries of ``data.exclude`` of a mixed run that are of one task, as ids or stems.

    Each names its task, as in ``lung/3``: every task has a scan 3.

    Args:
        entries: All entries; a single one needs no list.
        task: Name of the task.
        names: Names of all tasks of the run.

    Raises:
        InputError: If an entry names none of the tasks.
    """
    is_list = isinstance(entries, Sequence) and not isinstance(entries, str)
    texts = [str(entry) for entry in (entries if is_list else [entries]) if entry is not None]
    by_text = {text: text.partition("/") for text in texts}
    raise_if_any(
        Problem(
            where=f"data.exclude={text}",
            what="does not say of which task, and every task has scans of these ids",
            expected=f"an id or a file stem after one of {', '.join(f'{each}/' for each in names)}",
            found=repr(text),
            remedy=f"data.exclude=[{names[0]}/{entry or name or 1}]",
        )
        for text, (name, _, entry) in by_text.items()
        if name not in names or not entry
    )
    return [entry for name, _, entry in by_text.values() if name == task]


def _data_key(override: str) -> str | None:
    """Return the key of ``data`` that a setting is of, if it is of one."""
    match = _DATA.match(override)
    return match[1] if match else None


def scan_channels(network: Mapping[str, Any]) -> int:
    """Return the number of channels of each scan that a network takes.

    Args:
        network: Config node of the network.
    """
    return int(network.get(SCAN_CHANNELS, 1))


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
