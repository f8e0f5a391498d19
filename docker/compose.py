"""Compose the method of every task from the choices of ``build.sh``: ``compose.py MODELS``.

This runs during the build of the image, so that a misspelt option or a damaged checkpoint stops the
build. ``MODELS/task_0T.txt`` holds ``convex``, ``none`` or the name of a checkpoint in ``MODELS``,
then options of predict.py; a task without this file is registered by ``convex``. The resolved
method is written to ``MODELS/task_0T.yaml``.
"""

import sys
from pathlib import Path

import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from l2reg.config.build import build
from l2reg.config.presets import CHALLENGE_TASKS, config_dir
from l2reg.inference.prepare import prepare_method
from l2reg.problems import exit_on_input_error
from l2reg.submission.bundle import TASK_FOLDERS


def main(models: Path) -> None:
    """Write ``MODELS/task_0T.yaml`` of every task whose choice is not ``none``."""
    models.mkdir(parents=True, exist_ok=True)
    for folder, task in zip(TASK_FOLDERS, CHALLENGE_TASKS, strict=True):
        (models / f"{folder}.yaml").unlink(missing_ok=True)
        choice = models / f"{folder}.txt"
        words = choice.read_text(encoding="utf-8").split() if choice.is_file() else ["convex"]
        if words and words[0] != "none":
            print(f"{folder}: {' '.join(words)}")
            _write(models / f"{folder}.yaml", task, words)


def _write(path: Path, task: str, words: list[str]) -> None:
    method, *options = words
    checkpoint = path.parent / method
    has_checkpoint = checkpoint.is_file()
    overrides = [f"task={task}", f"ckpt={checkpoint}" if has_checkpoint else f"model={method}"]
    overrides += ["device=cpu", *options]
    with initialize_config_dir(str(config_dir().resolve()), version_base="1.3"):
        composed = compose("predict", overrides=[*overrides, "run_dir=unused"])
    config = OmegaConf.to_container(composed, resolve=True)
    keys = [override.split("=", 1)[0] for override in overrides]
    prepared = prepare_method(config, keys)
    config |= {"ckpt": method if has_checkpoint else None, "device": "auto"}
    dataset = build(prepared.config["task"], "task").layouts["current"].folder
    content = {"config": config, "overrides": keys, "dataset": dataset}
    path.write_text(yaml.safe_dump(content), encoding="utf-8")


if __name__ == "__main__":
    with exit_on_input_error():
        main(Path(sys.argv[1]))
