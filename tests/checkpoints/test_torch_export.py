import io
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import nn
from torch.export import ExportedProgram

from l2reg.batch import Batch
from l2reg.checkpoints import storage, torch_export
from l2reg.checkpoints.model_card import export_model
from l2reg.checkpoints.torch_export import export_network, programs_of
from l2reg.config.build import build
from l2reg.config.presets import config_dir, load_preset, preset_names
from l2reg.models.prediction import Prediction
from l2reg.problems import InputError
from l2reg.shapes import Shape3

SHAPE = (21, 24, 30)
UNET = {**load_preset("model", "unet"), "encoder": [3, 4], "decoder": [4], "final": [3]}
TASK = {**load_preset("task", "lung"), "shape": [42, 47, 60]}  # its half grid is SHAPE


def awake(node: dict[str, Any]) -> nn.Module:
    """Build a network whose field is not zero."""
    torch.manual_seed(0)
    model: nn.Module = build(node)
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.05)
    return model


def check_program(file: Any, model: nn.Module, rng: torch.Generator, n_channels: int = 1) -> None:
    """Compare the field of a program in a file with that of its network, on new scans."""
    fixed, moving = (torch.rand(1, n_channels, *SHAPE, generator=rng) for _ in range(2))
    found = torch.export.load(file).module()(fixed, moving)
    expected = model.eval()({"fixed": fixed, "moving": moving}).disp
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_the_program_of_an_exported_model_gives_the_field_of_its_network(
    rng: torch.Generator, tmp_path: Path
) -> None:
    node = {**UNET, "scan_channels": 2}
    model = awake(node)
    state = {"step": 3, "model": model.state_dict(), "l2reg": "0.1.0", "trained_on": {},
             "config": {"model": node, "task": TASK}}  # fmt: skip
    storage.save(tmp_path / "run/last.pt", state)
    export_model(tmp_path / "run", tmp_path / "out", "mit", as_program=True)
    check_program(tmp_path / "out/model.pt2", model, rng, n_channels=2)
    card = (tmp_path / "out/README.md").read_text()
    assert 'torch.export.load("model.pt2")' in card
    assert "takes tensors of shape (1, 2, 21, 24, 30): " in card
    export_model(tmp_path / "run", tmp_path / "alone", "mit")
    assert not (tmp_path / "alone/model.pt2").exists()
    assert "pt2" not in (tmp_path / "alone/README.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", sorted(set(preset_names("model")) - {"convex", "convex_learned", "zero"})
)
def test_every_network_becomes_a_program(name: str, rng: torch.Generator) -> None:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose("train", [f"model={name}", "task=lung", "run_dir=unused"])
    node: Any = OmegaConf.to_container(config.model, resolve=True)
    model, file = awake(node), io.BytesIO()
    torch.export.save(export_network(model, SHAPE, 1), file)
    file.seek(0)
    check_program(file, model, rng)


class Undecided(nn.Module):
    """A network whose control flow depends on the intensities."""

    def forward(self, batch: Batch) -> Prediction:
        fixed = batch["fixed"]
        return Prediction(fixed.repeat(1, 3, 1, 1, 1) if fixed.mean() > 0 else -fixed)


def test_a_network_that_cannot_be_exported_is_told_with_the_cause() -> None:
    with pytest.raises(InputError, match="network Undecided: cannot be exported") as raised:
        export_network(Undecided(), (3, 4, 5), 1)
    (problem,) = raised.value.problems
    assert "does not depend on their intensities" in problem.expected
    assert problem.found.startswith("GuardOnDataDependentSymNode: ")
    assert "--torch-export" in problem.remedy


def test_a_run_of_mixed_tasks_has_a_program_for_the_grid_of_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = {"lung": {"task": TASK}, "oasis": {"task": load_preset("task", "oasis")}}
    config = {"model": UNET, "mixed": {"only": ["lung", "oasis"], "tasks": nodes}}
    state = {"step": 3, "model": build(UNET).state_dict(), "l2reg": "0.1.0", "trained_on": {},
             "config": config}  # fmt: skip
    storage.save(tmp_path / "last.pt", state)
    program = torch.export.export(nn.Identity(), (torch.ones(2),))
    shapes = []

    def noted(_: nn.Module, shape: Shape3, n_channels: int) -> ExportedProgram:
        shapes.append((n_channels, shape))
        return program

    monkeypatch.setattr(torch_export, "export_network", noted)
    assert list(programs_of(tmp_path / "last.pt", config, [])) == [
        "model_lung.pt2",
        "model_oasis.pt2",
    ]
    assert shapes == [(1, SHAPE), (1, (80, 96, 112))]
