"""Train a registration network: ``python train.py task=lung model=unet [key=value ...]``."""

import signal
import sys
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from l2reg.config.keys import check_keys
from l2reg.config.presets import preset_names
from l2reg.config.task_nodes import check_mixed_tasks
from l2reg.problems import exit_on_input_error
from l2reg.runtime import configure_malloc
from l2reg.training.setup import prepare_training

OF_A_TASK = ("task", "data", "loss")


@hydra.main(version_base="1.3", config_path="configs", config_name="train")
def main(cfg: DictConfig) -> None:
    """Train until ``trainer.max_steps``, or until the program is asked to stop."""
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    configure_malloc()
    with exit_on_input_error():
        check_keys("train", config)
        if config["mixed"]:
            config = with_tasks(config)
        trainer = prepare_training(config)

        def stop(*_: object) -> None:
            trainer.stop_requested = True
            signal.signal(signal.SIGINT, signal.default_int_handler)  # the second time means it

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
        trainer.run()
    run_dir = config["run_dir"]
    if not trainer.finished:
        sys.exit(f"stopped at step {trainer.step}; the same command with resume=true goes on")
    which = " task=..." if config["mixed"] else ""
    print(f"trained {trainer.step} steps; next: python predict.py ckpt={run_dir}{which} split=val")


def with_tasks(config: dict[str, Any]) -> dict[str, Any]:
    """Return the config of a mixed run, with what each task would be given on its own."""
    only = config["mixed"]["only"]
    check_mixed_tasks(only, [name for name in preset_names("task") if name != "mixed"])
    given = HydraConfig.get().overrides.task
    shared = [option for option in given if not option.startswith(("task=", "mixed."))]
    tasks = {}
    for name in only:
        alone: Any = OmegaConf.to_container(
            hydra.compose("train", overrides=[*shared, f"task={name}"]), resolve=True
        )
        tasks[name] = {key: alone[key] for key in OF_A_TASK}
    own = {key: value for key, value in config.items() if key not in OF_A_TASK}
    return {**own, "mixed": {"only": only, "tasks": tasks}}


if __name__ == "__main__":
    main()
