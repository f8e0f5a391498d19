import os
from pathlib import Path

import pytest
import torch

from l2reg.checkpoints import storage
from l2reg.checkpoints.run_checkpoints import (
    checkpoint_files,
    drop_newer,
    earlier_checkpoints,
    load_checkpoint,
    load_last,
    save_last,
)
from l2reg.problems import InputError


def save_steps(run: Path, steps: list[int], keep: int = 3) -> None:
    before = None
    for step in steps:
        save_last(run, {"step": step, "model": {"w": torch.full((2,), float(step))}}, before, keep)
        before = step


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def names(run: Path) -> list[str]:
    return sorted(path.name for path in run.iterdir())


@pytest.mark.parametrize("links", [True, False])
def test_the_last_checkpoints_stay_under_their_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "no hard links here")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    save_steps(tmp_path, [0, 90, 100, 110, 110])
    assert names(tmp_path) == ["last.pt", "step_100.pt", "step_90.pt"]
    assert [path.name for path in earlier_checkpoints(tmp_path)] == ["step_100.pt", "step_90.pt"]
    assert [storage.load(tmp_path / name)["step"] for name in names(tmp_path)] == [110, 100, 90]


def test_a_run_may_keep_only_its_last_checkpoint(tmp_path: Path) -> None:
    save_steps(tmp_path, [0, 1, 2], keep=1)
    assert names(tmp_path) == ["last.pt"]


@pytest.mark.parametrize("spoilt", [["last.pt"], ["last.pt", "step_20.pt"]])
def test_the_newest_checkpoint_that_is_whole_stands_in_for_a_damaged_one(
    tmp_path: Path, spoilt: list[str]
) -> None:
    save_steps(tmp_path, [10, 20, 30])
    for name in spoilt:
        damage(tmp_path / name)
    loaded = load_last(tmp_path)
    step = 30 - 10 * len(spoilt)
    assert loaded.state["model"]["w"].tolist() == [step, step]
    assert [note.split(" ")[0] for note in loaded.notes] == [str(tmp_path / n) for n in spoilt]
    assert f"step_{step}.pt of step {step} is used instead" in loaded.notes[-1]
    drop_newer(tmp_path, loaded.path)
    assert storage.load(tmp_path / "last.pt")["step"] == step
    assert len(names(tmp_path)) == 3 - len(spoilt)
    assert not load_last(tmp_path).notes


def test_a_lost_last_checkpoint_is_replaced_too(tmp_path: Path) -> None:
    save_steps(tmp_path, [10, 20])
    (tmp_path / "last.pt").unlink()
    loaded = load_last(tmp_path)
    assert loaded.path.name == "step_10.pt"
    assert "last.pt is missing" in loaded.notes[0]


def test_the_first_error_is_told_if_no_checkpoint_is_whole(tmp_path: Path) -> None:
    save_steps(tmp_path, [10, 20])
    damage(tmp_path / "last.pt")
    damage(tmp_path / "step_10.pt")
    with pytest.raises(InputError, match=r"last\.pt: is damaged"):
        load_last(tmp_path)


def test_a_run_folder_means_its_best_then_its_last_then_those_before(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"(?s)last\.pt: is missing.*such as runs/lung_unet"):
        load_checkpoint(tmp_path)
    save_steps(tmp_path, [10, 20])
    assert load_checkpoint(tmp_path).path.name == "last.pt"
    storage.save(tmp_path / "best.pt", {"step": 15})
    assert load_checkpoint(tmp_path).path.name == "best.pt"
    files = checkpoint_files(tmp_path)
    assert [path.name for path in files] == ["best.pt", "last.pt", "step_10.pt"]
    for name, instead in (("best.pt", "last.pt"), ("last.pt", "step_10.pt")):
        damage(tmp_path / name)
        loaded = load_checkpoint(tmp_path)
        assert loaded.path.name == instead
        assert f"{name} is damaged" in loaded.notes[-1]


def test_a_file_that_is_named_itself_has_no_substitute(tmp_path: Path) -> None:
    save_steps(tmp_path, [10, 20])
    damage(tmp_path / "last.pt")
    with pytest.raises(InputError, match=r"last\.pt: is damaged"):
        load_checkpoint(tmp_path / "last.pt")


def test_another_format_is_refused_and_not_replaced(tmp_path: Path) -> None:
    save_steps(tmp_path, [10, 20])
    torch.save({"format": 2}, tmp_path / "last.pt")
    with pytest.raises(InputError, match="has another format"):
        load_last(tmp_path)
