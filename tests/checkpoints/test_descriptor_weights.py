import shutil
from pathlib import Path

import pytest
import torch

from l2reg.checkpoints import storage
from l2reg.checkpoints.descriptor_weights import learned_features
from l2reg.checkpoints.model_card import export_model
from l2reg.checkpoints.trained_model import load_trained_model
from l2reg.models.descriptors import DescriptorNetwork
from l2reg.problems import InputError

SHAPE = (17, 12, 15)


def expected(run: Path, scan: torch.Tensor) -> torch.Tensor:
    network = DescriptorNetwork([4, 6, 6], channels=5, levels=1)
    network.load_state_dict(storage.load(run / "best.pt")["model"])
    return network.describe(scan).detach()


def test_a_run_and_its_export_are_the_same_features(
    descriptor_run: Path, rng: torch.Generator
) -> None:
    scan = torch.rand(1, 1, *SHAPE, generator=rng)
    keys = export_model(descriptor_run, Path("out"), "unknown")
    assert keys == "task=... model=convex_learned model.features.learned.weights=out split=val"
    card = Path("out/README.md").read_text()
    assert "# DescriptorNetwork, descriptors of synthetic views" in card
    assert keys.replace("=out", "=FOLDER") in card
    for weights in (str(descriptor_run), "out", "out/model.safetensors"):
        found, _ = learned_features(weights)(scan, scan)
        torch.testing.assert_close(found, expected(descriptor_run, scan))


def test_damaged_weights_are_refused_or_others_stand_in(
    descriptor_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export_model(descriptor_run, Path("out"), "unknown")
    for path in (Path("out/model.safetensors"), descriptor_run / "best.pt"):
        shutil.copy(descriptor_run / "best.pt", descriptor_run / "last.pt")
        content = bytearray(path.read_bytes())
        content[-200] ^= 1
        path.write_bytes(content)
        with pytest.raises(InputError, match=f"{path.name}: is damaged"):
            learned_features(str(path))
    learned_features(str(descriptor_run))
    assert "best.pt is damaged" in capsys.readouterr().out


def test_without_weights_the_key_is_named() -> None:
    with pytest.raises(InputError, match=r"(?s)are missing.*features\.learned\.weights=runs/"):
        learned_features(None)


def test_weights_of_another_network_are_refused(descriptor_run: Path) -> None:
    state = storage.load(descriptor_run / "best.pt")
    state["config"]["model"]["channels"] = 6
    storage.save(descriptor_run / "other.pt", state)
    with pytest.raises(InputError, match="do not fit their network"):
        learned_features(str(descriptor_run / "other.pt"))
    state["config"]["model"] = {"_target_": "l2reg.models.zero.Zero", "grid": "half"}
    storage.save(descriptor_run / "zero.pt", state)
    with pytest.raises(InputError, match=r"(?s)are of another network.*Zero"):
        learned_features(str(descriptor_run / "zero.pt"))


def test_descriptors_register_no_scans_by_themselves(descriptor_run: Path) -> None:
    with pytest.raises(InputError, match=r"(?s)registers no scans.*model=convex_learned"):
        load_trained_model(descriptor_run, {"data.root": "/elsewhere"})
