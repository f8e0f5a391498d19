"""Turn the choices of ``build.sh`` into one resolved method a task: ``compose.py MODELS``.

Runs while the image is built, so that a misspelt option or a damaged checkpoint is found there.
``MODELS/task_0T.txt`` holds ``convex``, ``none`` or the name of a checkpoint beside it, and further
options of predict.py; a task without such a file is registered by ``convex``. ``task_0T.yaml`` is
written beside it.
"""

import sys
from pathlib import Path

import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from l2reg.config.build import build
from l2reg.config.presets import config_dir
from l2reg.inference.prepare import prepare_method
from l2reg.problems import exit_on_input_error

TASKS = {"task_01": "abdomen", "task_02": "lung", "task_03": "oasis"}


def main(models: Path) -> None:
    """Write ``MODELS/task_0T.yaml`` of every task that is not left out."""
    models.mkdir(parents=True, exist_ok=True)
    for folder, task in TASKS.items():
        (models / f"{folder}.yaml").unlink(missing_ok=True)
        choice = models / f"{folder}.txt"
        words = choice.read_text(encoding="utf-8").split() if choice.is_file() else ["convex"]
        if words and words[0] != "none":
            print(f"{folder}: {' '.join(words)}")
            _write(models / f"{folder}.yaml", task, words)


def _write(path: Path, task: str, words: list[str]) -> None:
    method, *options = words
    checkpoint = path.parent / method
    trained = checkpoint.is_file()
    overrides = [f"task={task}", f"ckpt={checkpoint}" if trained else f"model={method}"]
    overrides += ["device=cpu", *options]
    with initialize_config_dir(str(config_dir().resolve()), version_base="1.3"):
        composed = compose("predict", overrides=[*overrides, "run_dir=unused"])
    config = OmegaConf.to_container(composed, resolve=True)
    keys = [override.split("=", 1)[0] for override in overrides]
    prepared = prepare_method(config, keys)
    config |= {"ckpt": method if trained else None, "device": "auto"}
    current = build(prepared.config["task"]).layouts["current"].folder
    content = {"config": config, "overrides": keys, "dataset": current}
    path.write_text(yaml.safe_dump(content), encoding="utf-8")


if __name__ == "__main__":
    with exit_on_input_error():
        main(Path(sys.argv[1]))
