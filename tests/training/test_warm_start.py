import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from l2reg.checkpoints import storage
from l2reg.checkpoints.provenance import Provenance
from l2reg.checkpoints.trained_model import load_trained_model
from l2reg.config.build import build
from l2reg.problems import InputError
from l2reg.training.setup import prepare_training

TinyRun = Callable[..., dict[str, Any]]


@pytest.fixture
def parent(tiny_run: TinyRun) -> Path:
    """A run that has not taken its first step, in the folder ``parent``."""
    prepare_training({**tiny_run(), "run_dir": "parent"})
    return Path("parent")


def weights(path: str) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = storage.load(Path(path))["model"]
    return state


def test_a_run_starts_with_the_best_weights_of_another_and_says_so(
    parent: Path, tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    (parent / "last.pt").rename(parent / "best.pt")
    trainer = prepare_training(tiny_run("init_from=parent", "seed=5"))
    assert trainer.step == 0
    own, best = trainer.model.state_dict(), weights("parent/best.pt")
    assert all(torch.equal(own[name], value) for name, value in best.items())
    said = capsys.readouterr().out
    assert f"starting from {parent}/best.pt: {len(own)} of {len(own)} tensors loaded\n" in said
    for words in ("not loaded", "not in the checkpoint", "not used"):
        assert words not in said


def test_what_does_not_fit_is_told_with_both_shapes_and_left_as_it_was(
    parent: Path, tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    wider = ["model.decoder=[8]", "model.final=[4,4]"]
    fresh = prepare_training({**tiny_run(*wider), "run_dir": "fresh"}).model.state_dict()
    capsys.readouterr()
    model = prepare_training(tiny_run("init_from=parent/last.pt", *wider)).model.state_dict()
    said = capsys.readouterr().out
    before = weights("parent/last.pt")
    assert (
        "not loaded, different shape: up.0.0.weight (6, 10, 3, 3, 3), in this network (8, 10"
        in said
    )
    assert "not in the checkpoint: final.1.0.weight (4, 4, 3, 3, 3)" in said
    loaded = [name for name, value in before.items() if torch.equal(model[name], value)]
    assert f"{len(loaded)} of {len(model)} tensors loaded" in said
    assert any(name.startswith("down") for name in loaded)
    for name in set(model) - set(loaded):
        assert torch.equal(model[name], fresh[name])


def test_what_is_not_used_is_told_too(
    parent: Path, tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare_training(tiny_run("init_from=parent", "model.final=[]"))
    assert "not used: final.0.0.weight (4, 6, 3, 3, 3)" in capsys.readouterr().out


def test_a_checkpoint_of_which_nothing_fits_is_refused_before_anything_is_written(
    parent: Path, tiny_run: TinyRun
) -> None:
    state = storage.load(parent / "last.pt")
    foreign = {f"other.{name}": value for name, value in state["model"].items()}
    storage.save(Path("foreign.pt"), {**state, "model": foreign})
    with pytest.raises(InputError, match=r"(?s)init_from=foreign\.pt.*down\.0.*other\.down\.0"):
        prepare_training(tiny_run("init_from=foreign.pt"))
    with pytest.raises(InputError, match=r"nowhere.*is missing"):
        prepare_training(tiny_run("init_from=nowhere"))
    assert not Path("run").exists()


def test_scores_on_what_an_earlier_run_was_trained_or_chosen_on_get_a_note(
    tiny_run: TinyRun,
) -> None:
    few = ["trainer.max_steps=1", "trainer.picture_every=0"]
    prepare_training({**tiny_run(*few), "run_dir": "parent"}).run()
    child = tiny_run("init_from=parent", "data.exclude=[2]", "trainer.validate_every=0")
    prepare_training({**child, "run_dir": "child"})
    prepare_training(tiny_run("init_from=child", "data.exclude=[2,3]", "trainer.validate_every=0",
                              "data.sampling.val_images=true"))  # fmt: skip
    loaded = load_trained_model(Path("run"), {})
    assert loaded.origin.started_from == ["parent/best.pt (step 1)", "child/last.pt (step 0)"]
    config = tiny_run()
    data = build(config["data"], task=build(config["task"]))
    assert loaded.leakage_notes(data.training_set.intra_patient) == [
        "trained on 2 of 2 pairs: their scores are an overfit check"
    ]
    assert loaded.leakage_notes(data.split_pairs("val")) == [
        "trained on the images of 1 of 1 pair, without labels and points",
        "its initial weights, child/last.pt (step 0), were selected by scores on 1 of 1 pair",
    ]


def test_an_image_once_trained_on_with_its_labels_stays_so() -> None:
    origin = Provenance(trained_on={"a": "supervised", "b": "image"})
    uses = {"a": "image", "b": "supervised", "c": "image"}
    assert origin.merge_trained_on(uses) == {"a": "supervised", "b": "supervised", "c": "image"}


def test_a_run_that_started_elsewhere_resumes_without_its_parent(
    parent: Path, tiny_run: TinyRun
) -> None:
    quick = ["init_from=parent", "trainer.validate_every=0"]
    prepare_training({**tiny_run(*quick), "run_dir": "whole"}).run()
    prepare_training(tiny_run(*quick))
    shutil.rmtree(parent)
    prepare_training(tiny_run(*quick, "resume=true")).run()
    whole, after = (storage.load(Path(f"{name}/last.pt")) for name in ("whole", "run"))
    assert after["origin"] == whole["origin"]
    assert after["trained_on"] == whole["trained_on"]
    assert all(torch.equal(after["model"][n], value) for n, value in whole["model"].items())
