"""Completion of a config: what ``task=own`` leaves open is planned from the scans."""

from collections.abc import Mapping
from itertools import chain
from typing import Any

import torch
from tqdm import tqdm

from l2reg.config.build import build
from l2reg.config.presets import load_preset
from l2reg.config.task_nodes import node_name, task_nodes
from l2reg.data.intensity import Percentiles
from l2reg.data.task import Task
from l2reg.own_data.channels import channel_problems
from l2reg.own_data.check import own_problems
from l2reg.own_data.dataset import SIDES, SINGLE, OwnDataset
from l2reg.planning.fingerprint import Fingerprint, read_fingerprint
from l2reg.planning.plan import Plan, propose
from l2reg.problems import raise_if_any


def unplanned_task() -> Task:
    """Return a task of one's own data before it is planned; its grid is not used."""
    any_scan = Percentiles(low=0.0, high=100.0)
    intensity = dict.fromkeys((*SIDES, SINGLE), any_scan)
    return Task(name="own", shape=(1, 1, 1), spacing_mm=(1.0, 1.0, 1.0), intensity=intensity)


def plan_data(
    data: OwnDataset, device: str, max_voxels: int | None = None
) -> tuple[Plan, Fingerprint]:
    """Read the fingerprint of a table, and return what it suggests, and the fingerprint.

    Args:
        data: The data set, of which the task is not used.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        max_voxels: See ``propose``.

    Raises:
        InputError: If the table or a file is faulty.
    """
    facts = read_fingerprint(data, load_preset("planning", "default")["max_scans"])
    on_gpu = torch.cuda.is_available() and not device.startswith("cpu")
    return propose(facts, "cuda" if on_gpu else "cpu", max_voxels), facts


def complete_tasks(config: Mapping[str, Any], *, to_train: bool) -> dict[str, Any]:
    """Return a config in which the tasks of one's own data have a value for every key.

    Args:
        config: The resolved config of ``l2reg train`` or ``l2reg predict``.
        to_train: Whether its network is trained, which takes a number of channels; methods without
            training take any.

    Raises:
        InputError: If the table or a file is faulty, or the table does not suit the network.
    """
    network = config["model"] if to_train else None
    if config.get("mixed"):
        tasks = {
            name: _complete(node, config, network) for name, node in task_nodes(config).items()
        }
        return {**config, "mixed": {**config["mixed"], "tasks": tasks}}
    return (
        _complete(config, config, network)
        if config.get("task") and not config.get("ckpt")
        else {**config}
    )


def _complete(
    node: Mapping[str, Any], config: Mapping[str, Any], network: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return a node with ``task`` and ``data``, completed if these are of one's own."""
    task = node["task"]
    if not task or node_name(task) != "own":
        return dict(node)
    data: OwnDataset = build(node["data"], "data", config["trust"], task=unplanned_task())
    if network is not None:
        raise_if_any(channel_problems(data.table, network))
    missing = [key for key in ("shape", "spacing_mm") if task[key] is None]
    given = {name: each for name, each in task["intensity"].items() if each is not None}
    lacking = {*task["intensity"], *chain(*data.modalities)} - given.keys()
    if not missing and not lacking:
        return dict(node)
    raise_if_any(own_problems(data, [row for row in data.table.rows if row.split != "test"]))
    plan, _ = plan_data(data, config["device"])
    completed = {key: plan.task[key] for key in missing}
    intensity = {**plan.task["intensity"], **given}
    planned = {f"task.{key}" for key in (*missing, *(f"intensity.{name}" for name in lacking))}
    for reason in plan.reasons:
        if planned & set(reason.partition(":")[0].split(", ")):
            tqdm.write(f"planned {reason}")
    return {**node, "task": {**task, **completed, "intensity": intensity}}
