"""Score submissions: ``l2reg evaluate task=lung split=val 'submission=[A.zip,B]'``."""

import shlex
import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from l2reg.config.build import build
from l2reg.config.keys import check_keys, exit_on_interpolation_error, require_key
from l2reg.config.multirun import command_arguments, multirun_folder
from l2reg.config.presets import config_dir
from l2reg.problems import exit_on_input_error


@hydra.main(version_base="1.3", config_path=str(config_dir().resolve()), config_name="evaluate")
def main(cfg: DictConfig) -> None:
    """Print the official scores, and write them as JSON and, with ``report=true``, as a page."""
    with exit_on_interpolation_error():
        config: Any = OmegaConf.to_container(cfg, resolve=True)
    with exit_on_input_error():
        from l2reg.own_data.recognise import refuse_own_data
        from l2reg.reporting.evaluate_submissions import (
            Evaluation,
            evaluate_submissions,
            name_submissions,
        )
        from l2reg.runtime import configure_malloc
        from l2reg.submission.rules import rules_by_name

        configure_malloc()
        check_keys("evaluate", config)
        require_key("evaluate", config, "task", "task=lung 'submission=[task_02.zip]'")
        refuse_own_data(config)
        task = build(config["task"], "task", config["trust"])
        out = config["out"] or f"evaluation/{task.name}_{config['split']}"
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            overrides = HydraConfig.get().overrides.task
            arguments = command_arguments(HydraConfig.get().sweep.dir)
            out = multirun_folder(out, overrides, arguments, ("task", "split"))
        evaluation = Evaluation(
            data=build(config["data"], "data", config["trust"], task=task),
            split=config["split"],
            rules=rules_by_name(config["rules"]),
            out=Path(out),
            overwrite=config["overwrite"],
            show=config["show"],
            report=config["report"],
            allow_missing=config["allow_missing"],
            workers=config["workers"],
            command=shlex.join(["l2reg", "evaluate", *sys.argv[1:]]),
        )
        paths = evaluate_submissions(name_submissions(config["submission"] or []), evaluation)
    for path in paths:
        print(path)
