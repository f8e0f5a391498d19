import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.numpy import load_file, save_file

from l2reg.checkpoints import storage
from l2reg.checkpoints.model_export import read_export, without_paths, write_export
from l2reg.checkpoints.run_checkpoints import load_checkpoint
from l2reg.problems import InputError


def state() -> dict[str, Any]:
    return {
        "format": storage.FORMAT,
        "step": 7,
        "model": {"w": torch.arange(6.0).reshape(2, 3).T, "n": torch.tensor(3)},
        "optimizer": {"lr": 1.0},
        "config": {
            "model": {"_target_": "l2reg.models.unet.UNet", "encoder": [4]},
            "task": {"name": "lung", "root": "/home/me", "labels": {1: "liver"}},
            "data": {"root": "/home/me", "cache": ".cache", "pseudo_labels": {"root": "/x"}},
            "trainer": {"max_steps": 7},
        },
        "l2reg": "0.1.0",
        "trained_on": {"ab": "image", "0123": "supervised"},
        "chosen_on": ["cd"],
        "origin": {"started_from": ["runs/a (step 5)"]},
        "scores": {"val/dsc": 0.5, "val/tre_mm": float("nan")},
    }


def test_what_is_exported_is_read_without_optimiser_and_paths(tmp_path: Path) -> None:
    before = state()
    path = tmp_path / "model.safetensors"
    write_export(path, before)
    after = load_checkpoint(tmp_path).state
    for name, tensor in before["model"].items():
        assert torch.equal(after["model"][name], tensor)
    for key in ("step", "l2reg", "trained_on", "chosen_on", "origin"):
        assert after[key] == before[key]
    assert after["config"]["task"] == {"name": "lung", "root": None, "labels": {1: "liver"}}
    assert after["config"]["data"]["pseudo_labels"] == {"root": None}
    assert set(after["config"]) == {"model", "task", "data"}
    assert "optimizer" not in after
    assert load_checkpoint(path).state["step"] == 7
    assert b"/home/me" not in path.read_bytes()


def test_other_programs_read_the_weights(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_export(path, state())
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    start, end = header["w"]["data_offsets"]
    assert header["w"]["shape"] == [3, 2]
    values = struct.unpack("<6f", content[8 + length :][start:end])
    assert list(values) == [0, 3, 1, 4, 2, 5]


def test_an_averaged_model_is_exported_as_what_is_predicted_with(tmp_path: Path) -> None:
    averaged = {"module.w": torch.full((2,), 2.0), "n_averaged": torch.tensor(5)}
    path = tmp_path / "model.safetensors"
    write_export(path, {**state(), "averaged": averaged})
    assert {name: t.tolist() for name, t in read_export(path)["model"].items()} == {"w": [2, 2]}


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_export(tmp_path / name, state())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("place", [-1, 200, 3, 0.5])
def test_a_flipped_bit_is_told(tmp_path: Path, place: float) -> None:
    path = tmp_path / "model.safetensors"
    write_export(path, state())
    content = bytearray(path.read_bytes())
    content[int(place * len(content)) if isinstance(place, float) else place] ^= 1
    path.write_bytes(content)
    with pytest.raises(storage.DamagedCheckpointError, match=r"safetensors: is damaged or is not"):
        read_export(path)


def test_a_file_of_another_program_or_format_is_told(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(InputError, match=r"safetensors: is missing"):
        read_export(path)
    write_export(path, state())
    save_file(load_file(path), path)  # without the description
    with pytest.raises(InputError, match="no description of a model of l2reg"):
        read_export(path)
    path.write_bytes(b"PK")
    with pytest.raises(InputError, match="is damaged or is not an exported model"):
        read_export(path)


def test_another_version_of_the_format_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(storage, "FORMAT", 2)
        write_export(path, state())
    with pytest.raises(InputError, match="has another format"):
        read_export(path)


def test_the_paths_of_every_mixed_task_are_left_out() -> None:
    nodes = {name: state()["config"] for name in ("a", "b")}
    config = without_paths({"mixed": {"only": ["a", "b"], "tasks": nodes}})
    assert "/home/me" not in str(config)
    assert nodes["a"]["data"]["root"] == "/home/me"  # the original is left alone
