import json
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from l2reg.checkpoints import storage
from l2reg.config.presets import preset_names
from l2reg.io.volumes import read_volume, write_volume
from l2reg.problems import InputError
from l2reg.training.setup import prepare_training

TinyRun = Callable[..., dict[str, Any]]


def weights(path: str) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = storage.load(Path(path))["model"]
    return state


@pytest.mark.parametrize("flavour", ["lung", "abdomen", "oasis"])
def test_a_run_leaves_everything_that_its_folder_should_hold(
    tiny_run: TinyRun, flavour: str, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare_training(tiny_run(flavour=flavour)).run()
    run = Path("run")
    assert {path.name for path in run.iterdir()} == {
        ".l2reg_run", "config.yaml", "environment.json", "last.pt", "step_0.pt", "best.pt",
        "metrics.jsonl", "tensorboard",
    }  # fmt: skip
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    trained = [line for line in lines if "train/loss" in line]
    assert [line["step"] for line in trained] == [1, 2, 3]
    validated = [line for line in lines if "train/loss" not in line]
    assert [line["step"] for line in validated] == [2, 3]  # every second step, and the last
    metric = "val/tre_mm" if flavour == "lung" else "val/dsc"
    assert metric in validated[0]
    best = storage.load(run / "best.pt")
    assert best["config"]["task"]["flavour"] == flavour
    said = capsys.readouterr().out
    assert "training on" in said
    assert "best so far" in said
    assert "step 3/3" in said


def test_tensorboard_shows_scalars_and_pictures(tiny_run: TinyRun) -> None:
    prepare_training(tiny_run()).run()
    events = EventAccumulator("run/tensorboard", size_guidance={"images": 0})
    events.Reload()
    assert {"train/loss", "train/similarity", "train/lr", "val/tre_mm"} <= set(
        events.Tags()["scalars"]
    )
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3]
    assert [event.step for event in events.Images("validation pair")] == [3]


def test_the_same_seed_gives_the_same_weights_and_another_gives_others(tiny_run: TinyRun) -> None:
    found = []
    for seed in (0, 0, 1):
        options = (
            f"seed={seed}",
            "overwrite=true",
            "trainer.max_steps=1",
            "trainer.validate_every=0",
        )
        prepare_training(tiny_run(*options)).run()
        found.append(weights("run/last.pt"))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert not all(torch.equal(found[0][name], found[2][name]) for name in found[0])


def test_a_run_resumed_from_its_folder_equals_one_never_stopped(tiny_run: TinyRun) -> None:
    prepare_training(tiny_run()).run()
    whole, lines = weights("run/last.pt"), Path("run/metrics.jsonl").read_text()

    interrupted = prepare_training(tiny_run("overwrite=true"))
    forward = interrupted.train_step

    def stops(batch: Any) -> dict[str, float]:
        interrupted.stop_requested = interrupted.step == 1
        return forward(batch)

    interrupted.train_step = stops  # type: ignore[method-assign]
    interrupted.run()
    assert interrupted.step == 2
    resumed = prepare_training(tiny_run("resume=true"))
    assert resumed.step == 2
    resumed.run()
    after = weights("run/last.pt")
    assert all(torch.equal(whole[name], after[name]) for name in whole)
    assert Path("run/metrics.jsonl").read_text() == lines


def test_a_network_trained_in_stages_goes_on_in_the_stage_it_was_in(composed: TinyRun) -> None:
    """It draws random numbers too: the smoothness of every pair."""
    small = ["model=clapirn", "model.width=4", "model.blocks=1", "model.stages=[0.25,0.5,1.0]",
             "model.freeze=0.25", "model.grid=[20,18,22]", "device=cpu",
             "trainer.max_steps=8", "trainer.validate_every=0"]  # fmt: skip
    prepare_training(composed("train", *small)).run()
    whole = weights("run/last.pt")

    interrupted = prepare_training(composed("train", *small, "overwrite=true"))
    forward = interrupted.train_step

    def stops(batch: Any) -> dict[str, float]:
        interrupted.stop_requested = interrupted.step == 4  # the finest level has begun
        return forward(batch)

    interrupted.train_step = stops  # type: ignore[method-assign]
    interrupted.run()
    resumed = prepare_training(composed("train", *small, "resume=true"))
    assert resumed.step == 5
    resumed.run()
    after = weights("run/last.pt")
    assert all(torch.equal(whole[name], after[name]) for name in whole)


def test_a_new_run_never_deletes_the_run_that_it_starts_from(tiny_run: TinyRun) -> None:
    prepare_training(tiny_run())
    for start in ("init_from=run", "init_from=run/last.pt"):
        with pytest.raises(InputError, match="is not deleted: it is needed"):
            prepare_training(tiny_run(start, "overwrite=true"))
    assert Path("run/last.pt").exists()


@pytest.mark.parametrize(("scans", "use"), [("training", "to train on"), ("val", "to validate")])
def test_a_run_is_not_resumed_on_other_images(
    tiny_run: TinyRun, phantoms: dict[str, Path], tmp_path: Path, scans: str, use: str
) -> None:
    prepare_training(tiny_run())
    before = Path("run/last.pt").read_bytes()
    root = tmp_path / "data"
    shutil.copytree(phantoms["lung"], root)
    prepare_training(tiny_run("resume=true", f"data.root={root}"))  # a copy is no other data
    case = {"training": "case_002", "val": "case_001"}[scans]
    (image,) = root.rglob(f"scans/{case}_exp.nii.gz")
    scan = read_volume(image)
    write_volume(image, scan.array + 1, scan.place)
    with pytest.raises(InputError, match=rf"(?s)images {use}.*init_from=run") as error:
        prepare_training(tiny_run("resume=true", f"data.root={root}"))
    assert "1 of them are missing or have changed, 1 are new" in str(error.value)
    assert Path("run/last.pt").read_bytes() == before


def test_a_finished_run_resumed_changes_nothing_and_says_so(
    tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare_training(tiny_run()).run()
    before = weights("run/last.pt")
    for n_steps in (3, 2):
        again = prepare_training(tiny_run("resume=true", f"trainer.max_steps={n_steps}"))
        said = capsys.readouterr().out
        assert f"nothing to train: 3 steps are done, and trainer.max_steps is {n_steps}" in said
        assert "continuing" not in said
        again.run()
        assert again.finished
    assert all(torch.equal(before[name], value) for name, value in weights("run/last.pt").items())


def test_more_steps_stretch_the_schedule_and_say_so(
    tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare_training(tiny_run()).run()
    longer = prepare_training(tiny_run("resume=true", "trainer.max_steps=5"))
    assert "max_steps was 3 and is 5" in capsys.readouterr().out
    longer.run()
    assert longer.step == 5


def test_a_run_killed_before_its_first_checkpoint_can_be_resumed(tiny_run: TinyRun) -> None:
    prepare_training(tiny_run())  # and never runs
    resumed = prepare_training(tiny_run("resume=true"))
    assert resumed.step == 0


def test_a_run_whose_last_checkpoint_is_damaged_continues_from_the_one_before(
    tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare_training(tiny_run("trainer.checkpoint_every=1")).run()
    whole, lines = weights("run/last.pt"), Path("run/metrics.jsonl").read_text()
    content = Path("run/last.pt").read_bytes()
    Path("run/last.pt").write_bytes(content[:-999])
    resumed = prepare_training(tiny_run("trainer.checkpoint_every=1", "resume=true"))
    said = capsys.readouterr().out
    assert "warning: run/last.pt is damaged" in said
    assert "step_2.pt of step 2 is used instead" in said
    assert "continuing at step 2 of 3" in said
    resumed.run()
    after = weights("run/last.pt")
    assert all(torch.equal(whole[name], after[name]) for name in whole)
    assert Path("run/metrics.jsonl").read_text() == lines


def test_a_spoilt_loss_keeps_the_last_good_checkpoint(tiny_run: TinyRun) -> None:
    trainer = prepare_training(tiny_run("trainer.checkpoint_every=1"))
    step = trainer.train_step

    def spoils(batch: Any) -> dict[str, float]:
        if trainer.step == 2:
            batch = {**batch, "fixed": batch["fixed"] * np.nan}
        return step(batch)

    trainer.train_step = spoils  # type: ignore[method-assign]
    with pytest.raises(InputError, match="training step 2"):
        trainer.run()
    assert storage.load(Path("run/last.pt"))["step"] == 2


def test_faults_of_the_data_are_told_before_anything_is_written(
    composed: TinyRun, lung_2021: Path
) -> None:
    config = composed("train", "task=lung", f"data.root={lung_2021}", "device=cpu")
    with pytest.raises(InputError) as error:
        prepare_training(config)
    assert len(error.value.problems) == 12  # six scans and six masks, of another shape
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("seed", -1, "seed=-1: is no random seed"),
        ("run_dir", "full", "run_dir=full: exists"),
        ("run_dir", "/proc/run", "/proc/run: cannot be written"),
        ("model", {"_target_": "os.mkdir"}, r"os\.mkdir: cannot be built"),
        ("data", {"_target_": "os.mkdir"}, r"os\.mkdir: cannot be built"),
        ("init_from", "none.pt", r"none\.pt: is missing"),
        ("optimizer", {"_target_": "torch.optim.AdamW", "lr": -1.0}, "Invalid learning rate: -1"),
        (
            "optimizer",
            {"_target_": "torch.optim.AdamW", "lr": "fast"},
            r"lr=fast.*torch\.optim\.AdamW.*expected  a number\n",
        ),
        ("scheduler", {"_target_": "os.mkdir"}, r"os\.mkdir: cannot be built"),
        ("loss", {"_target_": "os.mkdir"}, r"os\.mkdir: cannot be built"),
        ("track", ["none"], "is no experiment tracker"),
    ],
)
def test_a_faulty_option_is_told_before_phantoms_are_made(
    composed: TinyRun, key: str, value: object, message: str
) -> None:
    Path("full").mkdir()
    Path("full/mine.txt").touch()
    config = composed("train", "device=cpu")
    config["task"] |= {"root": "made"}
    with pytest.raises(InputError, match=f"(?s){message}"):
        prepare_training(config | {key: value})
    assert not Path("made").exists()
    assert not Path("run").exists()


def test_a_model_without_parameters_has_nothing_to_learn(composed: TinyRun) -> None:
    with pytest.raises(InputError, match="has nothing to train"):
        prepare_training(composed("train", "model=zero", "device=cpu"))
    assert not Path("run").exists()


def test_without_validation_nothing_is_read_of_the_validation_pairs(tiny_run: TinyRun) -> None:
    config = tiny_run("trainer.validate_every=0")
    landmarks = Path(config["task"]["root"]) / "task_02/training/lms/case_001.txt"
    text = landmarks.read_text()
    landmarks.write_text("spoilt")
    try:
        prepare_training(config).run()
    finally:
        landmarks.write_text(text)
    assert not Path("run/best.pt").exists()


def test_the_checkpoint_knows_what_it_was_trained_and_chosen_on(tiny_run: TinyRun) -> None:
    prepare_training(tiny_run()).run()
    best, last = (storage.load(Path(f"run/{name}.pt")) for name in ("best", "last"))
    assert len(best["trained_on"]) == 4
    assert set(best["trained_on"].values()) == {"supervised"}
    assert len(best["chosen_on"]) == 1
    assert "chosen_on" not in last
    assert last["l2reg"]


@pytest.mark.parametrize("flavour", ["lung", "abdomen", "oasis"])
def test_symmetric_training_does_not_care_which_scan_is_the_fixed_one(
    tiny_run: TinyRun, flavour: str
) -> None:
    overrides = ["trainer.symmetric=true", "loss.weights.inverse_consistency=0.1",
                 "loss.weights.dice=1", "loss.weights.keypoints=1"]  # fmt: skip
    trainer = prepare_training(tiny_run(*overrides, flavour=flavour))
    torch.nn.init.normal_(trainer.model.head.conv.weight, std=0.1)  # type: ignore[union-attr]
    before = deepcopy(trainer.model.state_dict())
    batch = trainer.batches[0]
    other = {"fixed": "moving", "moving": "fixed"}
    swapped = {
        "_".join([other.get(side, side) for side in name.split("_")]): value
        for name, value in batch.items()
    }
    forward = trainer.train_step(batch)
    trainer.model.load_state_dict(before)
    backward = trainer.train_step(swapped)
    assert forward["inverse_consistency"] > 0
    for term, value in forward.items():
        assert backward[term] == pytest.approx(value, rel=1e-4), term


def test_inverse_consistency_without_both_directions_is_refused(tiny_run: TinyRun) -> None:
    with pytest.raises(InputError, match=r"expected  trainer\.symmetric=true"):
        prepare_training(tiny_run("loss.weights.inverse_consistency=0.1"))
    assert not Path("run").exists()


@pytest.mark.parametrize("model", ["unet"])
@pytest.mark.parametrize("flavour", ["lung", "abdomen", "oasis"])
@pytest.mark.parametrize("loss", ["mse", "lncc", "mind"])
@pytest.mark.parametrize("head", ["displacement", "velocity", "gradient"])
def test_every_loss_and_head_trains_on_every_flavour(
    tiny_run: TinyRun, model: str, flavour: str, loss: str, head: str
) -> None:
    overrides = [f"loss={loss}", f"model={model}", f"model.head={head}", "trainer.max_steps=2",
                 "trainer.validate_every=0", "loss.weights.dice=1"]  # fmt: skip
    trainer = prepare_training(tiny_run(*overrides, flavour=flavour))
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.run()
    after = trainer.model.state_dict().items()
    moved = [name for name, value in after if not torch.equal(value, before[name])]
    assert any(name.startswith("head") for name in moved)


NARROW = {
    "unet": ["model.encoder=[4,6]", "model.decoder=[6]", "model.final=[4]"],
    "siamese_unet": ["model.encoder=[4,4,4,4,4]"],
}


@pytest.mark.parametrize(
    "experiment",
    [
        name if name == "demo" else pytest.param(name, marks=pytest.mark.slow)
        for name in preset_names("experiment")
        if name != "descriptors"  # which reads no scans: tests/training/test_synthetic_task.py
    ],
)
def test_every_experiment_takes_two_steps_with_a_narrow_network(
    composed: TinyRun, half_labelled_brains: Path, experiment: str
) -> None:
    """On phantoms, and without the run that it would start from."""
    network = "siamese_unet" if experiment.startswith("estienne") else "unet"
    flavour = {"demo": "lung", "estienne_abdomen": "abdomen"}.get(experiment, "oasis")
    options = [f"experiment={experiment}", "task=phantom", f"model={network}", *NARROW[network],
               "init_from=null", "device=cpu", "trainer.max_steps=2", "trainer.batch_size=2",
               "trainer.validate_every=0"]  # fmt: skip
    if experiment == "noisy_labels":
        options.append("data.pseudo_labels.root=given")
    config = composed("train", *options, flavour=flavour)
    if flavour == "oasis":
        config["task"]["root"] = str(half_labelled_brains)
    trainer = prepare_training(config)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.run()
    assert trainer.step == 2
    after = trainer.model.state_dict()
    assert any(not torch.equal(value, after[name]) for name, value in before.items())


def test_pretraining_noisy_labels_and_fine_tuning_follow_each_other(
    tiny_run: TinyRun, half_labelled_brains: Path
) -> None:
    seen = {}
    stages = {"pretrain": "init_from=null", "noisy_labels": "init_from=pretrain",
              "finetune": "init_from=noisy_labels"}  # fmt: skip
    for stage, start in stages.items():
        options = [f"experiment={stage}", start, "trainer.validate_every=0", "trainer.max_steps=1"]
        if stage == "noisy_labels":
            options.append("data.pseudo_labels.root=given")
        config = tiny_run(*options, flavour="oasis")
        config["task"]["root"] = str(half_labelled_brains)
        trainer = prepare_training({**config, "run_dir": stage})
        trainer.run()
        drawn = [trainer.batches.draw(step, 0) for step in range(20)]  # type: ignore[attr-defined]
        samples = {pair: trainer.batches.read(pair) for pair in drawn}  # type: ignore[attr-defined]
        seen[stage] = {round(float(sample["label_weight"]), 2) for sample in samples.values()}
        assert ("dice" in trainer.objective.terms) == (stage != "pretrain")  # type: ignore[operator]
    assert seen["noisy_labels"] == {0.3, 1.0}
    assert seen["finetune"] == {0.0, 1.0}
    assert storage.load(Path("finetune/last.pt"))["origin"]["started_from"] == [
        "pretrain/last.pt (step 1)", "noisy_labels/last.pt (step 1)"
    ]  # fmt: skip


@pytest.mark.gpu
def test_a_run_on_the_gpu_trains_and_validates(tiny_run: TinyRun) -> None:
    prepare_training(tiny_run("device=cuda", "trainer.precision=bf16")).run()
    assert Path("run/best.pt").exists()


@pytest.mark.parametrize(
    "debug",
    ["fast", *(pytest.param(name, marks=pytest.mark.slow) for name in ("overfit", "profile"))],
)
def test_a_debug_run_takes_its_steps(
    tiny_run: TinyRun, debug: str, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = {"overfit": 3, "fast": 2, "profile": 5}[debug]
    config = tiny_run(f"debug={debug}", f"trainer.max_steps={steps}", "trainer.validate_every=2")
    assert config["overwrite"]
    trainer = prepare_training(config)
    trainer.run()
    assert trainer.step == steps
    assert ("dearest operators" in capsys.readouterr().out) == (debug == "profile")
    drawn = {trainer.batches.draw(step, 0).name for step in range(9)}  # type: ignore[attr-defined]
    assert (len(drawn) == 1) == (debug == "overfit")


@pytest.mark.slow
def test_a_network_overfits_one_pair(tiny_run: TinyRun) -> None:
    """An overfit check, no result: one pair, its own keypoints."""
    overrides = ["trainer.max_steps=250", "trainer.validate_every=0", "data.exclude=[3]",
                 "data.augment=null", "loss.weights.keypoints=1", "model.encoder=[16,32,32,32]",
                 "model.decoder=[32,32]", "model.final=[16]"]  # fmt: skip
    prepare_training(tiny_run(*overrides)).run()
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    losses = [line["train/keypoints"] for line in lines]
    assert np.mean(losses[-10:]) < 0.03 * losses[0]
