from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from l2reg.checkpoints import storage
from l2reg.checkpoints.trained_model import load_trained_model
from l2reg.config.build import build
from l2reg.problems import InputError
from l2reg.training.setup import prepare_training

TinyRun = Callable[..., dict[str, Any]]


def test_a_checkpoint_rebuilds_its_network_without_further_help(tiny_run: TinyRun) -> None:
    trainer = prepare_training(tiny_run())
    trainer.run()
    loaded = load_trained_model(Path("run/last.pt"), {})
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], value)
    assert loaded.config["model"]["encoder"] == [4, 6]
    assert load_trained_model(Path("run"), {}).path.name == "best.pt"


def test_a_damaged_best_model_is_replaced_and_the_scores_say_so(
    tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare_training(tiny_run())
    Path("run/best.pt").write_bytes(b"PK")
    loaded = load_trained_model(Path("run"), {})
    assert loaded.path.name == "last.pt"
    (note,) = loaded.fallback_notes
    assert "run/best.pt is damaged" in note
    assert f"warning: {note}" in capsys.readouterr().out


def test_overrides_are_laid_over_the_runs_config(tiny_run: TinyRun) -> None:
    prepare_training(tiny_run())
    loaded = load_trained_model(Path("run"), {"data.root": "/elsewhere", "data.cache": None})
    assert loaded.config["data"]["root"] == "/elsewhere"
    assert loaded.config["data"]["cache"] is None
    assert loaded.config["task"]["root"] == "/elsewhere"  # of phantoms, which are looked for there


def test_weights_of_another_network_are_refused(tiny_run: TinyRun) -> None:
    prepare_training(tiny_run())
    state = storage.load(Path("run/last.pt"))
    state["config"]["model"]["encoder"] = [4, 8]
    storage.save(Path("run/other.pt"), state)
    with pytest.raises(InputError, match="does not fit the network"):
        load_trained_model(Path("run/other.pt"), {})


def test_a_network_that_this_version_does_not_have_is_refused_with_the_checkpoint(
    tiny_run: TinyRun,
) -> None:
    prepare_training(tiny_run())
    state = storage.load(Path("run/last.pt"))
    for change in ({"_target_": "l2reg.models.gone.Gone"}, {"slope": 0.1}):
        changed = {**state["config"], "model": {**state["config"]["model"], **change}}
        storage.save(Path("run/other.pt"), {**state, "config": changed})
        with pytest.raises(InputError, match=r"(?s)other\.pt: does not fit.*environment\.json"):
            load_trained_model(Path("run/other.pt"), {})


@pytest.mark.parametrize(
    "target", ["os.mkdir", "mypkg.net.TinyNet", "monai.bundle.run", "torch.hub.load"]
)
def test_a_checkpoint_cannot_name_what_it_likes(tiny_run: TinyRun, target: str) -> None:
    prepare_training(tiny_run("trust=[mypkg]"))
    state = storage.load(Path("run/last.pt"))
    assert "trust" not in state["config"]
    evil = {"_target_": target, "path": "made", "name": "made"}
    head = {**state["config"]["model"], "head": evil}
    for model in (evil, head, {"_target_": "l2reg.models.backbone.Backbone", "network": evil}):
        forged = {**state["config"], "trust": ["mypkg", "os"], "model": model}
        storage.save(Path("run/forged.pt"), {**state, "config": forged})
        with pytest.raises(
            InputError,
            match=rf"(?s)forged\.pt.*_target_: {target}: cannot be built.*not on this list",
        ):
            load_trained_model(Path("run/forged.pt"), {})
    assert not Path("made").exists()


def test_a_checkpoint_brings_no_settings_but_those_of_model_task_and_data(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("L2REG_SECRET", "secret")
    prepare_training(tiny_run())
    state = storage.load(Path("run/last.pt"))
    forged = {**state["config"], "loss": {"_target_": "os.mkdir"}, "trust": ["os"]}
    storage.save(Path("run/forged.pt"), {**state, "config": forged})
    loaded = load_trained_model(Path("run/forged.pt"), {})
    assert set(loaded.config) == {"model", "task", "data", "trust"}
    assert loaded.config["trust"] == []
    forged["model"] = {**forged["model"], "head": "${oc.env:L2REG_SECRET}"}
    storage.save(Path("run/forged.pt"), {**state, "config": forged})
    with pytest.raises(InputError, match=r"oc\.env:L2REG_SECRET\}: is an interpolation") as error:
        load_trained_model(Path("run/forged.pt"), {})
    assert "'secret'" not in str(error.value)


def test_scores_on_what_was_trained_or_chosen_on_get_a_note(tiny_run: TinyRun) -> None:
    config = tiny_run("data.sampling.val_images=true")
    prepare_training(config).run()
    data = build(config["data"], task=build(config["task"]))
    best, last = (load_trained_model(Path(f"run/{name}.pt"), {}) for name in ("best", "last"))
    val, trained = (
        data.split_pairs("val"),
        [p for p in data.training_set.intra_patient if p.keypoints],
    )
    assert best.leakage_notes(val) == [
        "trained on the images of 1 of 1 pair, without labels and points",
        "best.pt was selected by its scores on 1 of 1 pair",
    ]
    assert last.leakage_notes(trained) == [
        "trained on 2 of 2 pairs: their scores are an overfit check"
    ]
    channel = trained[0].fixed.source
    (known,) = (replace(pair, fixed=replace(pair.fixed, channels=(channel,))) for pair in val)
    assert last.leakage_notes([known])[0].startswith("trained on 1 of 1 pair: ")
