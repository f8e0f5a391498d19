import sys
from pathlib import Path

import pytest

from l2reg.config.multirun import command_arguments, multirun_folder


@pytest.mark.parametrize(
    ("folder", "overrides", "arguments", "expected"),
    [
        ("runs/lung_unet", ["task=lung", "model=unet"], ["task=lung", "model=unet,pyramid"],
         "runs/lung_unet"),
        ("runs/lung_unet", ["seed=1", "loss.weights.dice=0.5", "device=cpu", "overwrite=true"],
         ["seed=0,1", "loss.weights.dice=0.5,1", "device=cpu"],
         "runs/lung_unet_seed-1_loss.weights.dice-0.5"),
        ("runs/lung_unet", ["model.encoder=[4,6]", "seed=1"], ["model.encoder=[4, 6]", "seed=0,1"],
         "runs/lung_unet_seed-1"),
        ("runs/lung_unet", ["+a.b_c=[4,6]", "data.root=/x/y z"], [],
         "runs/lung_unet_a.b_c-4-6_data.root-x-y-z"),
        ("runs/x", ["run_dir=runs/x", "model=unet"], ["run_dir=runs/x", "model=unet,pyramid"],
         "runs/x_model-unet"),
        ("a", ["run_dir=a", "seed=1"], ["run_dir=a,b", "seed=1"], "a"),
        ("o", ["out=o", "split=val"], ["out=o", "split=val,test"], "o_split-val"),
        ("runs/1", ["run_dir=runs/${seed}", "seed=1"], ["run_dir=runs/${seed}", "seed=0,1"],
         "runs/1"),
    ],
)  # fmt: skip
def test_a_folder_is_named_by_what_the_run_varies_and_its_name_lacks(
    folder: str, overrides: list[str], arguments: list[str], expected: str
) -> None:
    in_name = ("task", "model", "split")
    assert multirun_folder(folder, overrides, arguments, in_name) == expected
    assert "=" not in expected


def test_long_names_stay_short_apart_and_the_same_every_time() -> None:
    names = [multirun_folder("runs/a", [f"key={'x' * 300}{n}"], [], ()) for n in (1, 2, 1)]
    assert names[0] == names[2] != names[1]
    assert max(map(len, names)) < 130


def test_a_job_on_a_cluster_knows_what_the_command_varied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["submitit/core/_submit.py", "folder"])
    assert "seed=0,1" not in command_arguments(tmp_path)
    told = "hydra:\n  overrides:\n    hydra: []\n    task: ['seed=0,1', task=lung]\nseed: 0\n"
    (tmp_path / "multirun.yaml").write_text(told)
    assert {"seed=0,1", "task=lung"} <= command_arguments(tmp_path)
    monkeypatch.setattr(sys, "argv", ["l2reg train", "-m", "seed=2,3"])  # Optuna's writes no file
    assert "seed=2,3" in command_arguments(tmp_path / "none")
