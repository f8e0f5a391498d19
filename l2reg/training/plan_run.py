"""Plan of a training run: time and memory of a step, and what the options that save memory cost."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import yaml
from tqdm import tqdm

from l2reg.io.text_columns import align_columns
from l2reg.problems import InputError
from l2reg.training.distributed import is_first, start_processes
from l2reg.training.memory import memory_options
from l2reg.training.run_options import training_settings
from l2reg.training.setup import build_trainer
from l2reg.training.step_cost import StepCost, measure_step
from l2reg.training.training_task import open_training_tasks
from l2reg.wording import quantity

_GB = 1e9


def plan_run(config: Mapping[str, Any]) -> str:
    """Return a table of time and memory of a run, as it is and with each option that saves memory.

    Some steps are taken and thrown away; no run folder is touched.

    Args:
        config: See ``setup.prepare_training``.

    Raises:
        InputError: If options or data are incorrect.
    """
    config = {**config, "init_from": None, "resume": False}
    settings, device = training_settings(config), start_processes(config["device"])
    tasks = open_training_tasks(config, with_validation=False)
    trainer, _ = build_trainer(config, settings, tasks, device)
    options = ["", *memory_options(settings, getattr(trainer.model, "grid", "half"))]
    rows = [["", "s per step", "GB", f"hours for {quantity(settings.max_steps, 'step')}"]]
    first: StepCost | None = None
    for option in options:
        changed = override(config, option)
        trainer, _ = build_trainer(changed, training_settings(changed), tasks, device)
        try:
            cost = measure_step(trainer)
        except InputError:
            rows.append([option or "as it is", "-", "too little memory", "-"])
            continue
        first = first or cost
        hours = cost.seconds * settings.max_steps / 3600
        values = [f"{cost.seconds:.2f}", f"{cost.memory_bytes / _GB:.2f}", f"{hours:.1f}"]
        rows.append([option or "as it is", *values])
        if is_first():
            tqdm.write(f"measured: {rows[-1][0]}")
    lines = [align_columns(rows)]
    if first is not None:
        lines.append(
            f"{first.n_parameters:,} weights; the first batch is read in "
            f"{first.reading_seconds:.2f} s, later ones from the cache and beside the steps"
        )
    if device.type == "cpu":
        lines.append("GB: tensors at once; what an operator takes for itself comes on top")
    return "\n".join(lines)


def override(config: Mapping[str, Any], option: str) -> dict[str, Any]:
    """Return a config with the values of ``key.key=value``, several of them by blanks."""
    changed: dict[str, Any] = deepcopy(dict(config))
    for setting in option.split():
        path, _, value = setting.partition("=")
        *groups, key = path.split(".")
        node = changed
        for group in groups:
            node = node[group]
        node[key] = yaml.safe_load(value)
    return changed
