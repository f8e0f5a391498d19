"""Train a registration network: ``l2reg train task=lung model=unet [key=value ...]``."""

import signal
import sys
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from l2reg.config.keys import check_keys, exit_on_interpolation_error
from l2reg.config.multirun import command_arguments, multirun_folder
from l2reg.config.presets import config_dir, preset_names
from l2reg.config.task_nodes import (
    check_mixed_tasks,
    overrides_by_task,
    own_exclusions,
    prediction_keys,
)
from l2reg.problems import exit_on_input_error
from l2reg.wording import quantity

SIGNALLED = 128  # exit status of a program that a signal ended, less the signal
TASK_KEYS = ("task", "data", "loss")


@hydra.main(version_base="1.3", config_path=str(config_dir().resolve()), config_name="train")
def main(cfg: DictConfig) -> float | None:
    """Train until ``trainer.max_steps``, or until SIGINT (Ctrl-C) or SIGTERM.

    Returns:
        The best quality in a validation, larger for better, which a sweeper of Hydra may maximise;
        ``None`` without validation, and from all processes but the first.
    """
    with exit_on_interpolation_error():
        config: Any = OmegaConf.to_container(cfg, resolve=True)
    with exit_on_input_error():
        from l2reg.planning.complete import complete_tasks
        from l2reg.runtime import configure_malloc
        from l2reg.training.distributed import is_first, stop_processes
        from l2reg.training.run_options import check_options
        from l2reg.training.setup import prepare_training

        configure_malloc()
        check_keys("train", config)
        plan = config.pop("plan")
        hydra_config = HydraConfig.get()
        if hydra_config.mode == RunMode.MULTIRUN:
            config["run_dir"] = multirun_folder(
                config["run_dir"],
                hydra_config.overrides.task,
                command_arguments(hydra_config.sweep.dir),
                ("task", "model"),
            )
        if config["mixed"]:
            config = compose_tasks(config)
        if not plan:  # which writes nothing to the run folder
            check_options(config)
        config = complete_tasks(config, to_train=True)
        if plan:
            from l2reg.training.plan_run import plan_run

            measured = plan_run(config)
            if is_first():
                print(measured)
            return None
        trainer = prepare_training(config)
        signals = train_until_signal(trainer)
        writes = is_first()
        stop_processes()
    end_run(trainer, config, signals, writes=writes)
    return float(trainer.best) if writes and trainer.best is not None else None


def train_until_signal(trainer: Any) -> list[int]:
    """Train until the run is finished, or until SIGINT or SIGTERM; return those that came."""
    signals: list[int] = []

    def stop(number: int, _: object) -> None:
        trainer.stop_requested = True
        signals.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a second one ends at once

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    trainer.run()
    return signals


def end_run(trainer: Any, config: dict[str, Any], signals: list[int], *, writes: bool) -> None:
    """Say how a run goes on; of one that a signal stopped, exit with its status.

    Args:
        trainer: The trainer of the run.
        config: The config of the run.
        signals: Signals that came; another rank may have had one that this one had not.
        writes: Whether this process is the one that writes.
    """
    if not trainer.finished:
        if writes:
            print(
                f"stopped at step {trainer.step}; the same command with resume=true continues the "
                "run",
                file=sys.stderr,
            )
        sys.exit(SIGNALLED + next(iter(signals), signal.SIGTERM))
    if writes:
        keys = prediction_keys(config, config["run_dir"])
        keys += f" 'trust=[{','.join(config['trust'])}]'" if config["trust"] else ""
        print(f"trained {quantity(trainer.step, 'step')}; next: l2reg predict {keys} split=val")


def compose_tasks(config: dict[str, Any]) -> dict[str, Any]:
    """Return the config of a mixed run, with the nodes that each task has in a run of its own."""
    only = config["mixed"]["only"]
    check_mixed_tasks(only, [name for name in preset_names("task") if name != "mixed"])
    tasks = {}
    for name, overrides in overrides_by_task(HydraConfig.get().overrides.task, only).items():
        single: Any = OmegaConf.to_container(
            hydra.compose("train", overrides=[*overrides, f"task={name}"]), resolve=True
        )
        if "exclude" in single["data"]:
            single["data"]["exclude"] = own_exclusions(single["data"]["exclude"], name, only)
        tasks[name] = {key: single[key] for key in TASK_KEYS}
    shared_nodes = {key: value for key, value in config.items() if key not in TASK_KEYS}
    return {**shared_nodes, "mixed": {"only": only, "tasks": tasks}}
