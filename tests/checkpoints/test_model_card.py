from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from l2reg.checkpoints import storage
from l2reg.checkpoints.model_card import export_model, model_card
from l2reg.checkpoints.model_export import write_export
from l2reg.checkpoints.trained_model import load_trained_model
from l2reg.problems import InputError
from l2reg.training.setup import prepare_training
from l2reg.training.warm_start import warm_start

TinyRun = Callable[..., dict[str, Any]]


def test_a_run_is_exported_with_a_card_and_predicts_and_trains_on(tiny_run: TinyRun) -> None:
    trainer = prepare_training(tiny_run("trainer.ema_decay=0.5"))
    scores = {
        "scores": {"val/tre_mm": 2.25, "val_dsc/lung": 0.5, "val/retrieval_a": 0.25},
        "chosen_on": ["v"],
    }
    storage.save(Path("run/best.pt"), {**storage.load(Path("run/last.pt")), **scores})
    export_model(Path("run"), Path("out"), "cc-by-4.0")
    exported, trained = (load_trained_model(Path(p), {}) for p in ("out", "run"))
    for name, value in trained.model.state_dict().items():
        assert torch.equal(exported.model.state_dict()[name], value)
    assert exported.trained_on == trained.trained_on
    assert exported.selected_on == ["v"]
    assert exported.config["data"]["root"] is None
    origin = warm_start(trainer.model, Path("out"))
    assert origin.started_from == ["out/model.safetensors (step 0)"]
    header, card = Path("out/README.md").read_text().split("---\n")[1:3]
    assert yaml.safe_load(header)["license"] == "cc-by-4.0"
    for words in ("| tre_mm | 2.2500 |", "| dsc/lung | 0.5000 |", "| retrieval_a | 0.2500 |",
                  "4 images, 4 with labels", "1 fixed image;",
                  "| task | phantom |", "flavour: ", "encoder:",
                  "l2reg predict ckpt=FOLDER"):  # fmt: skip
        assert words in card
    assert str(Path(str(tiny_run()["task"]["root"])).parent) not in card
    with pytest.raises(InputError, match="out: exists"):
        export_model(Path("run"), Path("out"), "unknown")


def test_an_export_cannot_name_what_it_likes(tiny_run: TinyRun) -> None:
    prepare_training(tiny_run())
    state = storage.load(Path("run/last.pt"))
    state["config"]["model"] = {"_target_": "os.mkdir", "path": "made"}
    write_export(Path("forged.safetensors"), state)
    with pytest.raises(InputError, match=r"(?s)forged\.safetensors.*not on this list"):
        load_trained_model(Path("forged.safetensors"), {})
    assert not Path("made").exists()


def test_a_model_without_scores_has_a_card_without_them() -> None:
    config = {"model": {"_target_": "l2reg.models.unet.UNet"}, "task": {"name": "lung"}}
    state = {"config": config, "step": 3, "model": {}, "l2reg": "0.1.0", "trained_on": {}}
    card = model_card(state, "unknown")
    assert "# UNet, registration of lung" in card
    assert "## Scores" not in card
    assert "| selected by its scores on | nothing |" in card
    assert "| started from | random weights |" in card
    assert "    l2reg predict ckpt=FOLDER split=val\n" in card
    own = {**state, "config": {**config, "task": {"name": "own"}}}
    assert "ckpt=FOLDER data.pairs=my.csv split=all\n" in model_card(own, "unknown")
