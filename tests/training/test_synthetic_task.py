import json
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from l2reg.checkpoints import storage
from l2reg.checkpoints.descriptor_weights import learned_features
from l2reg.config.build import build
from l2reg.config.presets import config_dir, load_preset
from l2reg.models.descriptors import DescriptorNetwork
from l2reg.phantom import tissues, views
from l2reg.problems import InputError
from l2reg.training.setup import prepare_training
from l2reg.training.synthetic_task import RetrievalValidation
from l2reg.training.training_task import open_training_tasks

pytestmark = pytest.mark.usefixtures("small_tissues")

CPU = torch.device("cpu")
TINY = (
    "experiment=descriptors", "device=cpu", "model.widths=[4,4,4]", "model.channels=5",
    "model.levels=2", "data.views.size=17", "data.views.n_points=24", "data.views.n_patients=2",
    "data.n_val=2", "data.n_val_points=8", "data.val_shift=0.5", "data.radius=2",
    "loss.n_negatives=4",
    "trainer.max_steps=2", "trainer.validate_every=1", "trainer.picture_every=2",
)  # fmt: skip


def composed(*overrides: str) -> dict[str, Any]:
    return deepcopy(compose_once(overrides))


@cache
def compose_once(overrides: tuple[str, ...]) -> dict[str, Any]:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose("train", overrides=[*overrides, "run_dir=run"], return_hydra_config=True)
    own = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
    plain: dict[str, Any] = OmegaConf.to_container(own, resolve=True)  # type: ignore[assignment]
    return plain


def last() -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = storage.load(Path("run/last.pt"))["model"]
    return weights


def test_descriptors_are_trained_validated_and_used_as_features(
    capsys: pytest.CaptureFixture[str],
) -> None:
    prepare_training(composed(*TINY)).run()
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    trained = [line for line in lines if "train/loss" in line]
    assert [line["step"] for line in trained] == [1, 2]
    assert {"train/classes", "train/positions"} <= set(trained[0])
    validated = [line for line in lines if "val/retrieval" in line]
    assert [line["step"] for line in validated] == [1, 2]
    assert validated[0]["val/retrieval_reference"] == validated[1]["val/retrieval_reference"]
    assert "no scan is read" in capsys.readouterr().out
    state = storage.load(Path("run/best.pt"))
    assert (state["trained_on"], state["validated_on"]) == ({}, [])
    scan = torch.rand(1, 1, 14, 17, 20)
    assert learned_features("run")(scan, scan)[0].shape == (1, 5, 14, 17, 20)


@pytest.mark.parametrize(("trained", "validated"), [(0.0, 3.0), (3.0, 0.0)])
def test_views_are_shifted_as_far_as_training_and_validation_say(
    trained: float, validated: float
) -> None:
    still = ("data.views.elastic=0", "data.views.affine=0")
    shifts = (f"data.views.shift={trained}", f"data.val_shift={validated}")
    data = build(composed(*TINY, *still, *shifts)["data"])
    batch = data.views.batches(items=range(1), seed=0, device=CPU)[0]
    for pair, shift in ((batch, trained), (data.validation_pairs(CPU)[0], validated)):
        moved = (pair["moving_points"] - pair["fixed_points"]).norm(dim=2)
        assert (moved.mean() > 1) == (shift > 0)
        assert moved.amax() - moved.amin() < 1e-4


@pytest.mark.slow
def test_a_resumed_run_equals_one_never_stopped() -> None:
    quiet = (*TINY, "trainer.validate_every=0", "trainer.max_steps=3")
    prepare_training(composed(*quiet)).run()
    whole, lines = last(), Path("run/metrics.jsonl").read_text()
    interrupted = prepare_training(composed(*quiet, "overwrite=true"))
    step = interrupted.train_step

    def stops(batch: Any) -> dict[str, float]:
        interrupted.stop_requested = interrupted.step == 1
        return step(batch)

    interrupted.train_step = stops  # type: ignore[method-assign]
    interrupted.run()
    resumed = prepare_training(composed(*quiet, "resume=true"))
    assert resumed.step == 2
    resumed.run()
    after = last()
    assert all(torch.equal(whole[name], after[name]) for name in whole)
    assert Path("run/metrics.jsonl").read_text() == lines


def test_validation_pairs_are_the_same_for_every_run_and_of_patients_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seeds = []

    def seen(seed: int, patient: int) -> torch.Tensor:
        seeds.append(seed)
        return tissues.tissue_map(seed, patient)

    monkeypatch.setattr(views, "tissue_map", seen)
    (task,) = open_training_tasks(composed(*TINY), with_validation=True).values()
    cpu = torch.device("cpu")
    first, again = (task.data.validation_pairs(cpu) for _ in range(2))  # type: ignore[attr-defined]
    assert all(torch.equal(a["fixed"], b["fixed"]) for a, b in zip(first, again, strict=True))
    assert set(seeds) == {task.data.views.patient_seed + 1}  # type: ignore[attr-defined]


def test_perfect_descriptors_find_every_point() -> None:
    """Positions themselves, taken from the other view by the true field, are found exactly."""
    config = composed(*TINY)
    config["data"]["val_shift"] = 0.0
    config["data"]["views"] |= {"shift": 0.0, "elastic": 0.0, "affine": 0.0}
    (task,) = open_training_tasks(config, with_validation=True).values()

    class Positions(DescriptorNetwork):
        def describe(self, image: torch.Tensor) -> torch.Tensor:
            axes = [torch.arange(float(size)) for size in image.shape[2:]]
            return torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]

    validation = RetrievalValidation(
        Positions([4, 4], channels=3, levels=1),
        task.data,  # type: ignore[attr-defined]
        torch.device("cpu"),
        "float32",
    )
    scores, quality = validation.score()
    assert quality == scores["val/retrieval"] == scores["val/retrieval_phantoms"] == 1
    assert scores["val/retrieval_reference"] < 1


def test_another_network_is_refused() -> None:
    config = composed(*TINY)
    config["model"] = load_preset("model", "unet")
    with pytest.raises(InputError, match=r"(?s)UNet: cannot be trained on synthetic views"):
        prepare_training(config)
