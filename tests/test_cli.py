import importlib
import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from l2reg.checkpoints import storage
from l2reg.checkpoints.run_checkpoints import load_checkpoint
from l2reg.cli.main import main
from l2reg.config.build import build
from l2reg.config.presets import config_dir, load_preset
from l2reg.data.task import Task
from l2reg.evaluation.pair_scores import PairScores
from l2reg.evaluation.score_files import write_scores
from l2reg.evaluation.score_submissions import ZERO_FIELD, SubmissionScores
from l2reg.submission.bundle import write_bundle
from l2reg.submission.fields import to_submission, write_field
from l2reg.submission.rules import RULES
from l2reg.training.warm_start import warm_start


def test_a_phantom_is_written_and_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "phantom"
    main(["phantom", "--flavour", "lung", "--out", str(out), "--pairs", "2", "--seed", "3"])
    said = capsys.readouterr().out
    assert f"l2reg check {out}" in said
    main(["check", str(out)])
    said = capsys.readouterr().out
    assert "1 validation pair, 1 pair and 0 single scans to train on, 0 problems" in said
    assert said.splitlines()[-1] == "no problems"


def test_all_problems_are_listed_and_the_exit_code_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "phantom"
    main(["phantom", "--flavour", "lung", "--out", str(out), "--pairs", "2"])
    scans = out / "task_02/training/scans"
    (scans / "case_001_exp.nii.gz").unlink()
    (scans / "case_002_exp.nii.gz").write_bytes(b"x")
    with pytest.raises(SystemExit) as stop:
        main(["check", str(out)])
    assert "case_001_exp.nii.gz: is missing" in str(stop.value.code)
    assert "case_002_exp.nii.gz: cannot be read" in str(stop.value.code)
    assert "2 problems" in capsys.readouterr().out


def test_a_root_without_data_is_refused_with_what_is_expected_of_every_task(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["check", str(tmp_path)])
    for words in ("task_01", "task_02", "task_03", "an empty folder", "grand-challenge.org"):
        assert words in str(stop.value.code)


def test_one_task_can_be_checked_alone(lung_2021: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["check", str(lung_2021), "--task", "oasis"])
    assert "holds no data of task oasis" in str(stop.value.code)
    with pytest.raises(SystemExit) as stop:
        main(["check", str(lung_2021), "--task", "lung"])
    assert str(stop.value.code).count("has another shape than its task") == 12


@pytest.mark.parametrize("arguments", [[], ["nothing"], ["phantom", "--out", "x"]])
def test_wrong_arguments_show_the_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage: l2reg" in capsys.readouterr().err


@pytest.mark.data
def test_the_later_layout_without_images_lists_what_is_missing(real_data: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["check", str(real_data / "l2r_later_layout"), "--task", "lung"])
    assert str(stop.value.code).count(": is missing") == 6


def submitted(folder: Path, value: float, names: tuple[str, ...] = ("0001_0001",)) -> Path:
    """Write a submission of small lung phantoms whose fields are constant."""
    for name in names:
        write_field(folder / "task_02", name, np.full((3, 36, 32, 40), value, np.float16))
    write_bundle(folder, "task_02", folder.parent / "task_02.zip")
    return folder.parent / "task_02.zip"


def test_a_submission_is_checked_against_the_official_pairs_and_form(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(submitted(tmp_path / "submission", 0.5))
    with pytest.raises(SystemExit) as stop:
        main(["check-submission", path, "--task", "lung"])
    message = str(stop.value.code)
    assert "2 missing: 0002_0002, 0003_0003" in message
    assert "expected  (3, 96, 96, 104)" in message
    assert message.count("remedy") == 2
    with pytest.raises(SystemExit) as stop:
        main(["check-submission", path, "--task", "oasis", "--rules", "current"])
    assert "19 missing: 0395_0396" in str(stop.value.code)


def test_a_submission_is_checked_against_the_pairs_and_images_of_a_data_root(
    phantoms: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = (
        "0003_0003"
        if "3, 3" in (phantoms["lung"] / "task_02/pairs_val.csv").read_text()
        else ("0001_0001")
    )
    with np.load(phantoms["lung"] / f"task_02/truth/disp_{name}.npz") as truth:
        (half,) = to_submission(torch.from_numpy(truth["arr_0"]).float()[None], (72, 64, 80))
    arguments = ["--task", "lung", "--data", str(phantoms["lung"])]
    for sign, words in ((1, ["no format fault"]), (-1, ["warning", "wrong sign", "no format"])):
        folder = tmp_path / f"{sign}/submission"
        write_field(folder / "task_02", name, sign * half)
        write_bundle(folder, "task_02", folder.parent / "task_02.zip")
        main(["check-submission", str(folder.parent / "task_02.zip"), *arguments])
        said = capsys.readouterr().out
        assert all(word in said for word in words)
        assert ("warning" in said) == (sign < 0)


def test_tasks_are_bundled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    submitted(tmp_path / "submission", 0.5)
    main(["bundle", str(tmp_path / "task_02.zip"), "--out", str(tmp_path / "all.zip")])
    said = capsys.readouterr().out
    assert "task_02: 1 field\n" in said
    assert (tmp_path / "all.zip").read_bytes() == (tmp_path / "task_02.zip").read_bytes()


@pytest.fixture
def results(
    tmp_path: Path, tiny_task: Callable[..., Task], pair_scores: Callable[..., PairScores]
) -> Callable[..., Path]:
    """Write scores of lung teams, each with its landmark error in mm; the zero field has 9."""

    def written(name: str, **teams: float) -> Path:
        scored = {
            team: SubmissionScores(
                [pair_scores(f"{n}", tre_mm=[error, error + 0.1 * n]) for n in range(6)]
            )
            for team, error in {ZERO_FIELD: 9.0, **teams}.items()
        }
        write_scores(tmp_path / name, tiny_task("lung"), RULES["2021"], scored)
        return tmp_path / name

    return written


@pytest.mark.parametrize("method", ["official", "page"])
def test_teams_of_several_files_are_ranked(
    method: str, results: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(results("1.json", slow=3.0)), str(results("2.json", best=1.0))]
    main(["rank", *paths, "--method", method, "--resamples", "20"])
    said = capsys.readouterr().out
    standings = said[said.index(f"{method} ranking") :].splitlines()
    assert [line.split()[0] for line in standings[1:4]] == ["best", "slow", "zero"]
    assert "lung: ranked by" in said
    assert "without runtime; no team has one" in said


def test_a_team_ranked_twice_is_refused(results: Callable[..., Path]) -> None:
    path = str(results("1.json", best=1.0))
    with pytest.raises(SystemExit) as stop:
        main(["rank", path, path])
    assert "holds team best" in str(stop.value.code)
    with pytest.raises(SystemExit) as stop:
        main(["rank", path, "--resamples", "0"])
    assert "resamples: are too few" in str(stop.value.code)


def test_pseudo_labels_are_written_and_trained_with(
    half_labelled_brains: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = load_preset("model", "unet") | {"encoder": [4, 6], "decoder": [6], "final": [4]}
    config = {"model": node, "data": load_preset("data", "default")}
    state = {"config": config, "model": build(node).state_dict(), "trained_on": {}}
    storage.save(Path("network.pt"), state)
    main(["propagate-labels", str(half_labelled_brains), "--out", "pseudo",
          "--ckpt", "network.pt", "--device", "cpu"])  # fmt: skip
    said = capsys.readouterr().out
    assert "1 label map below pseudo" in said
    assert "data.pseudo_labels.root=pseudo" in said
    assert Path("pseudo/OASIS_OAS1_0002_MR1/aligned_norm.nii.gz").is_file()


def test_a_network_of_a_package_of_your_own_propagates_labels_if_it_is_trusted(
    half_labelled_brains: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "from l2reg.models.unet import UNet\nclass MyNet(UNet):\n    pass\n"
    (tmp_path / "my_module.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    node = load_preset("model", "unet") | {"encoder": [4, 6], "decoder": [6], "final": [4]}
    state = {"model": build(node).state_dict(), "trained_on": {}}
    node["_target_"] = "my_module.MyNet"
    config = {"model": node, "data": load_preset("data", "default")}
    storage.save(Path("network.pt"), {**state, "config": config})
    command = ["propagate-labels", str(half_labelled_brains), "--out", "pseudo", "--device", "cpu",
               "--ckpt", "network.pt"]  # fmt: skip
    with pytest.raises(SystemExit) as stop:
        main(command)
    assert "my_module.MyNet: cannot be built" in str(stop.value.code)
    main([*command, "--trust", "my_module"])
    assert Path("pseudo/OASIS_OAS1_0002_MR1/aligned_norm.nii.gz").is_file()


@pytest.mark.parametrize("name", ["LapIRN_disp_fea7 lapirn", "clapirn_lite clapirn"])
@pytest.mark.published
def test_import_weights_prints_how_to_train_on(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stem, model = name.split()
    path = Path(os.environ["L2REG_PUBLISHED"]) / f"{stem}.pth"
    main(["import-weights", str(path), "--model", model, "--out", "published"])
    said = capsys.readouterr().out
    assert "l2reg predict ckpt=published" in said
    command = shlex.split(said.splitlines()[-1].removeprefix("train on: l2reg train "))
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose("train", overrides=[*command, "run_dir=on"])
    network = build(OmegaConf.to_container(config.model, resolve=True))
    assert warm_start(network, Path(config.init_from)).imported_from == [path.name]
    assert f"{len(network.state_dict())} of {len(network.state_dict())}" in capsys.readouterr().out


def test_export_writes_a_folder_that_predictions_take(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {"model": load_preset("model", "unet"), "task": load_preset("task", "lung")}
    state = {"step": 3, "model": {}, "config": config, "l2reg": "0.1.0", "trained_on": {}}
    storage.save(tmp_path / "run/last.pt", state)
    main(["export", str(tmp_path / "run"), "--out", "out", "--license", "mit"])
    assert capsys.readouterr().out == "predict: l2reg predict ckpt=out split=val\n"
    assert load_checkpoint(Path("out")).state["step"] == 3
    with pytest.raises(SystemExit) as stop:
        main(["export", str(tmp_path / "none"), "--out", "other"])
    assert "none: is missing" in str(stop.value.code)
    assert not Path("other").exists()


def test_propagation_needs_one_task(lung_2021: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["propagate-labels", str(lung_2021), "--out", "pseudo"])
    assert "add --task abdomen" in str(stop.value.code)
    with pytest.raises(SystemExit):
        main(["propagate-labels", str(lung_2021), "--out", "pseudo", "--atlases", "0"])


def test_keypoints_are_made_where_a_pair_has_none(
    phantoms: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "lungs"
    shutil.copytree(phantoms["lung"], root)
    missing = sorted(root.rglob("keypoints/*.csv"))[0]
    missing.unlink()
    main(["keypoints", str(root), "--device", "cpu"])
    assert f"{missing}: " in capsys.readouterr().out
    assert missing.is_file()


@pytest.mark.usefixtures("two_headers")
def test_a_table_of_own_scans_is_checked_and_planned(
    own: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    shape, affine = own.moving
    own.write("n.nii.gz", shape, affine, lambda p: p + 1.0)
    own.write("o.nii.gz", shape, affine, lambda p: p + 2.0)
    Path("my pairs.csv").write_text("fixed,moving\nf.nii.gz,m.nii.gz\nn.nii.gz,o.nii.gz\n")
    main(["check", "my pairs.csv"])
    said = capsys.readouterr().out
    assert "my pairs.csv: 2 pairs: 1 train, 1 val; 0 problems" in said
    assert said.splitlines()[-1] == "no problems"
    Path("one.csv").write_text("fixed,moving\nf.nii.gz,m.nii.gz\n")
    main(["check", "one.csv"])  # enough to predict
    said = capsys.readouterr().out
    assert "warning: one.csv: has too few subjects to keep some for validation" in said
    assert said.splitlines()[-1] == "no problems, 1 warning"
    main(["plan", "my pairs.csv", "--no-dry-run", "--max-voxels", "20000"])
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "l2reg train --config-dir plans experiment=my_pairs"
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        searched = [f"hydra.searchpath=[file://{Path('plans').absolute()}]"]
        config = compose("train", overrides=["experiment=my_pairs", *searched])
    task = build(OmegaConf.to_container(config.task, resolve=True), "task")
    assert int(np.prod(task.shape)) <= 20_000
    assert config.data.pairs == str(Path("my pairs.csv").absolute())


def test_all_problems_of_a_table_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    Path("own.csv").write_text("fixed,moving,subject,split\na,b,1,val\nc,d,1,train\n")
    with pytest.raises(SystemExit) as stop:
        main(["check", "own.csv"])
    for words in ("/a: is missing", "/d: is missing", "subject 1: is in two splits"):
        assert words in str(stop.value.code)
    assert capsys.readouterr().out == ""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of OmegaConf's types, by beartype
@pytest.mark.parametrize("best", [-1.25, None])
def test_training_returns_its_best_validation_which_sweepers_maximise(
    best: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = importlib.import_module("l2reg.cli.train")
    trainer = SimpleNamespace(finished=True, step=5, best=best)
    monkeypatch.setattr("l2reg.training.setup.prepare_training", lambda config: trainer)
    monkeypatch.setattr(train, "train_until_signal", lambda trainer: [])
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose("train", ["task=lung", "model=unet"], return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    own = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
    assert train.main.__wrapped__(own) == best
