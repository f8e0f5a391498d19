"""One sound checkpoint, config and set of options of every kind, and how each is read."""

import contextlib
import io
import json
import os
import runpy
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml

from benchmarks.faults import mutations as m
from benchmarks.faults.kinds import OVERRIDES, Kind, digest, tiny_config
from l2reg.checkpoints import storage
from l2reg.checkpoints.model_export import WEIGHTS, write_export
from l2reg.checkpoints.trained_model import load_trained_model
from l2reg.config.build import build
from l2reg.inference.container import serve_current
from l2reg.training.setup import prepare_training
from l2reg.training.trainer import Trainer
from l2reg.training.warm_start import warm_start

ROOT = Path(__file__).parents[2]


def run_kinds(folder: Path) -> list[Kind]:
    """Train a tiny network for one step below ``folder``, and return the kinds of its files."""
    os.chdir(folder)
    root = f"data.root={folder / 'root'}"
    config = tiny_config(root)
    with contextlib.redirect_stdout(io.StringIO()):
        prepare_training(config).run()
    run = folder / "run"
    checkpoint = (run / "last.pt").read_bytes()
    write_export(folder / WEIGHTS, storage.load(run / "last.pt"))
    exported = (folder / WEIGHTS).read_bytes()

    def loaded(path: Path) -> str:
        trained = load_trained_model(path, {})
        return digest(*trained.model.state_dict().values(), trained.leakage_notes([]))

    def warm(path: Path) -> str:
        model: torch.nn.Module = build(config["model"])
        provenance = warm_start(model, path)
        return digest(*model.state_dict().values(), sorted(provenance.merge_trained_on()))

    def resumed(path: Path) -> str:
        shutil.copytree(run, "run")
        shutil.copy(path, "run")
        again = {**config, "resume": True}
        again["trainer"] = {**config["trainer"], "max_steps": 2}
        trainer = prepare_training(again)
        trainer.run()
        return digest(*trainer.model.state_dict().values())

    pack = (*m.BYTES, m.change_zip)
    return [
        Kind("checkpoint", "best.pt", checkpoint, loaded, pack, is_checked=True),
        Kind("exported model", WEIGHTS, exported, loaded, is_checked=True),
        Kind("initial weights", "best.pt", checkpoint, warm, pack, is_checked=True),
        Kind("checkpoint of a resumed run", "last.pt", checkpoint, resumed, pack,
             is_checked=True, named="run", share=1),
        Kind("config of a resumed run", "config.yaml", (run / "config.yaml").read_bytes(), resumed,
             (*m.BYTES, *[m.change_yaml] * 6), named="run", share=1),
        Kind("metrics of a resumed run", "metrics.jsonl", (run / "metrics.jsonl").read_bytes(),
             resumed, (*m.BYTES, m.change_words), named="run", share=1),
    ]  # fmt: skip


def option_kinds(folder: Path) -> list[Kind]:
    """Return the kinds of files that a user writes for the tiny data below ``folder``."""
    root = f"data.root={folder / 'root'}"
    options = "\n".join([*OVERRIDES, root, "data.exclude=[3]", "optimizer.lr=0.001"]).encode()
    experiment = {"seed": 3, "trainer": {"max_steps": 1}, "data": {"exclude": ["0003"]},
                  "loss": {"weights": {"smoothness": 0.5}}, "init_from": None}  # fmt: skip
    text = f"# @package _global_\n{yaml.safe_dump(experiment)}".encode()
    methods = folder / "methods"
    methods.mkdir()
    served = {"config": tiny_config("model=zero", script="predict"), "dataset": "LungCT",
              "overrides": ["task", "model"]}  # fmt: skip
    (methods / "task_02.yaml").write_text(yaml.safe_dump(served), encoding="utf-8")
    entry = {"fixed": "./imagesTr/LungCT_0001_0000.nii.gz"}
    entry["moving"] = entry["fixed"].replace("0000.nii", "0001.nii")
    served_json = json.dumps({"name": "LungCT", "registration_val": [entry]}).encode()

    def serve(path: Path) -> str:
        faults = serve_current(methods, path, path.parent / "data", path.parent / "out")
        return digest(len(faults))

    def typed(path: Path) -> str:
        return train(path.read_text(encoding="utf-8", errors="surrogateescape").splitlines())

    def from_file(path: Path) -> str:
        (path.parent / "experiment").mkdir()
        shutil.copy(path, path.parent / "experiment/mine.yaml")
        return train(["--config-dir", str(path.parent), *OVERRIDES, root, "experiment=mine"])

    return [
        Kind("data set that is served, JSON", "LungCT_dataset.json", served_json, serve,
             (*m.BYTES, *[m.change_json] * 4)),
        Kind("options of train.py", "", options, typed, (*m.BYTES, *[m.change_words] * 6),
             share=1),
        Kind("experiment, YAML", "mine.yaml", text, from_file, (*m.BYTES, *[m.change_yaml] * 6),
             named="error", share=1),
    ]  # fmt: skip


def _take_one_step(trainer: Trainer) -> None:
    trainer.train_step(trainer.batches[0])
    trainer.step = trainer.settings.max_steps


def train(options: Sequence[str]) -> str:
    """Run ``train.py`` in this process; what it prints becomes the message of its error."""
    sys.argv = ["train.py", *options]
    Trainer.run = _take_one_step  # type: ignore[method-assign, assignment] # whatever max_steps is
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed), contextlib.redirect_stdout(io.StringIO()):
            runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
    except SystemExit as stop:
        text = f"{printed.getvalue()}\n{stop.code}"
        if "Traceback" in text or not text.strip():
            raise RuntimeError(text[-2000:]) from stop
        raise SystemExit(f"error: {text}") from stop
    return "trained"
