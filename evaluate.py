"""Score submissions: ``python evaluate.py task=lung split=val 'submission=[A.zip,B]'``."""

from pathlib import Path

import hydra
from omegaconf import DictConfig, OmegaConf

from l2reg.config import build, check_given, check_keys
from l2reg.problems import told_plainly
from l2reg.reporting.evaluation import evaluate_submissions


@hydra.main(version_base="1.3", config_path="configs", config_name="evaluate")
def main(cfg: DictConfig) -> None:
    """Print the official scores, and write them as JSON and, on request, as a page."""
    config = OmegaConf.to_container(cfg, resolve=True)
    with told_plainly():
        check_keys("evaluate", config)
        check_given("evaluate", config, "task", "task=lung 'submission=[task_02.zip]'")
        task = build(config["task"])
        out = Path(config["out"] or f"evaluation/{task.name}_{config['split']}")
        paths = evaluate_submissions(
            build(config["data"], task=task),
            config["split"],
            [Path(path) for path in config["submission"]],
            out,
            report=config["report"],
        )
    for path in paths:
        print(path)


if __name__ == "__main__":
    main()
