from pathlib import Path

import pytest
import torch

from l2reg.checkpoints import storage
from l2reg.checkpoints.descriptor_weights import learned_features, write_descriptors
from l2reg.checkpoints.trained_model import load_trained_model
from l2reg.models.descriptors import DescriptorNetwork
from l2reg.problems import InputError

SHAPE = (17, 12, 15)


def expected(run: Path, scan: torch.Tensor) -> torch.Tensor:
    network = DescriptorNetwork([4, 6, 6], channels=5, levels=1)
    network.load_state_dict(storage.load(run / "best.pt")["model"])
    return network.describe(scan).detach()


def test_a_run_and_its_safetensors_are_the_same_features(
    descriptor_run: Path, rng: torch.Generator
) -> None:
    scan = torch.rand(1, 1, *SHAPE, generator=rng)
    file = Path("weights.safetensors")
    write_descriptors(descriptor_run, file)
    for weights, tolerance in ((str(descriptor_run), 1e-6), (str(file), 1e-2)):  # float16
        features = learned_features(weights)
        found, _ = features(scan, scan)
        torch.testing.assert_close(found, expected(descriptor_run, scan), atol=tolerance, rtol=0)


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
    zero = descriptor_run / "zero.pt"
    with pytest.raises(InputError, match=r"(?s)are of another network.*Zero"):
        learned_features(str(zero))
    with pytest.raises(InputError, match=r"(?s)are of another network.*Zero"):
        write_descriptors(zero, Path("a.safetensors"))
    assert not Path("a.safetensors").exists()


def test_another_ending_is_refused(descriptor_run: Path) -> None:
    with pytest.raises(InputError, match=r"(?s)has another ending.*weights\.safetensors"):
        write_descriptors(descriptor_run, Path("weights.pt"))


def test_descriptors_register_no_scans_by_themselves(descriptor_run: Path) -> None:
    with pytest.raises(InputError, match=r"(?s)registers no scans.*model=convex_learned"):
        load_trained_model(descriptor_run, {"data.root": "/elsewhere"})
