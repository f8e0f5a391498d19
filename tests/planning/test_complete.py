from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from l2reg.planning.complete import complete_tasks
from l2reg.problems import InputError

Own = SimpleNamespace


def unplanned(own_run: Any, *overrides: str) -> dict[str, Any]:
    config: dict[str, Any] = own_run("train", *overrides)
    config["task"] |= {"shape": None, "spacing_mm": None}
    config["task"]["intensity"] = dict.fromkeys(("fixed", "moving", "scan"))
    return config


@pytest.mark.usefixtures("two_headers")
def test_further_channels_are_planned_too(own_run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    Path("own.csv").write_text(
        "fixed,moving,fixed_channel,moving_channel\nf.nii.gz,m.nii.gz,seg_f.nii.gz,seg_m.nii.gz\n"
    )
    intensity = complete_tasks(unplanned(own_run), to_train=False)["task"]["intensity"]
    assert sorted(intensity) == [
        "fixed", "fixed_channel_1", "moving", "moving_channel_1", "scan", "scan_channel_1",
    ]  # fmt: skip
    assert intensity["scan_channel_1"] == intensity["fixed_channel_1"]
    assert intensity["fixed"]["_target_"].endswith("Window")
    assert intensity["fixed_channel_1"]["_target_"].endswith("Percentiles")
    capsys.readouterr()
    config: dict[str, Any] = own_run("train")
    completed = complete_tasks(config, to_train=False)["task"]["intensity"]
    assert completed["fixed"] == config["task"]["intensity"]["fixed"]
    assert completed["moving_channel_1"] == intensity["moving_channel_1"]
    said = capsys.readouterr().out
    assert "planned task.intensity.moving_channel_1: " in said
    assert "task.shape" not in said
    assert "task.intensity.moving: " not in said


@pytest.mark.parametrize(("cells", "taken"), [("", 2), ("a.nii;b.nii", 1), ("a.nii;b.nii", 2)])
def test_a_table_that_does_not_suit_the_network_is_told_before_its_scans_are_read(
    own_run: Any, cells: str, taken: int
) -> None:
    columns = "fixed,moving,fixed_channel,moving_channel\n"
    Path("own.csv").write_text(f"{columns}x.nii,y.nii,{cells},{cells}\n")
    config = unplanned(own_run, f"model.scan_channels={taken}")
    mixed = {**config, "mixed": {"only": ["own"], "tasks": {"own": config}}}
    for each in (config, mixed):
        with pytest.raises(InputError) as error:
            complete_tasks(each, to_train=True)
        (problem,) = error.value.problems
        assert problem.what == "has another number of channels than the network takes"
        with pytest.raises(InputError, match=r"x.nii: is missing"):
            complete_tasks(each, to_train=False)


def test_rows_of_unlike_channels_are_told_before_their_scans_are_read(own_run: Any) -> None:
    rows = "fixed,moving,fixed_channel,moving_channel\nx.nii,y.nii,a.nii,b.nii\nx.nii,y.nii,,\n"
    Path("own.csv").write_text(rows)
    with pytest.raises(InputError) as error:
        complete_tasks(unplanned(own_run, "model.scan_channels=2"), to_train=True)
    (problem,) = error.value.problems
    assert problem.what == "has another number of channels"


@pytest.mark.usefixtures("two_headers")
def test_what_is_null_is_planned_and_what_is_given_stays(
    own_run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("own.csv").write_text("fixed,moving\nf.nii.gz,m.nii.gz\n")
    config = unplanned(own_run)
    config["task"]["spacing_mm"] = [9.0, 9.0, 9.0]
    completed = complete_tasks(config, to_train=False)
    assert completed["task"]["shape"] == [48, 48, 32]
    assert completed["task"]["spacing_mm"] == [9.0, 9.0, 9.0]
    assert completed["task"]["intensity"]["fixed"]["low"] == -1000
    assert config["task"]["shape"] is None
    assert "planned task.shape, task.spacing_mm: the median spacing is 1 x 1 x 2 mm" in (
        capsys.readouterr().out
    )
    assert complete_tasks(completed, to_train=False) == completed
    mixed = {"mixed": {"only": ["own"], "tasks": {"own": config}}, "trust": [], "device": "cpu"}
    assert (
        complete_tasks(mixed, to_train=False)["mixed"]["tasks"]["own"]["task"] == completed["task"]
    )


def test_other_tasks_and_checkpoints_are_kept(own_run: Any) -> None:
    config = {"task": {"name": "lung", "intensity": {}}, "data": {}}
    assert complete_tasks(config, to_train=False) == config
    assert complete_tasks({"ckpt": "run", "task": {"shape": None}}, to_train=False)["task"] == {
        "shape": None
    }
    Path("own.csv").write_text("fixed,moving\nx.nii,y.nii\n")
    with pytest.raises(InputError, match=r"(?s)x.nii: is missing.*y.nii: is missing"):
        complete_tasks(unplanned(own_run), to_train=False)
