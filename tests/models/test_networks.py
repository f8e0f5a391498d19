"""Properties that every network has."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import nn

from l2reg.config.presets import config_dir, load_preset, preset_names
from l2reg.models.heads import KINDS
from l2reg.models.prediction import Prediction
from l2reg.training.setup import prepare_training

Batches = Callable[..., dict[str, torch.Tensor]]
Networks = Callable[..., nn.Module]
Awake = Callable[[nn.Module], nn.Module]

PARAMETERS = {
    "unet": 596_979,
    "pyramid": 1_028_844,
    "pyramid_gunnarsson": 8_611_191,
    "siamese_unet": 1_942_575,
    "lapirn": 923_748,
    "clapirn": 1_222_068,
    "vfa": 266_676,
    "sitreg": 564_352,
    "monai_segresnet": 1_177_827,
}
OVERFIT = {  # steps and learning rate
    "unet": (300, 2e-3),
    "pyramid": (60, 1e-3),
    "pyramid_gunnarsson": (100, 3e-4),
    "siamese_unet": (250, 3e-3),
    "lapirn": (150, 1e-3),
    "clapirn": (150, 1e-3),
    "vfa": (150, 2e-3),
    "sitreg": (150, 2e-3),
    "monai_segresnet": (60, 1e-3),
}
HEADS = [  # overrides of each network
    (name, f"model.head={head}")
    for name in PARAMETERS
    for head in KINDS
    if "head" in load_preset("model", name)
] + [("sitreg", "model.grid=half")]  # whose updates must have inverses
SHAPE = (15, 12, 17)


def test_every_network_that_can_be_trained_keeps_the_contract() -> None:
    assert (
        set(PARAMETERS)
        == set(OVERFIT)
        == set(preset_names("model")) - {"convex", "convex_learned", "zero"}
    )


@pytest.mark.parametrize("name", sorted(set(PARAMETERS) - {"clapirn", "pyramid_gunnarsson"}))
def test_one_voxel_of_the_coarsest_level_stands_for_the_smallest_size(
    name: str, network: Networks, batch: Batches
) -> None:
    model = network(name)
    sizes: list[int] = []
    for part in model.modules():
        if isinstance(part, nn.Conv3d):
            part.register_forward_hook(lambda *call: sizes.append(call[2].shape[2]))
    model(batch(5 * model.min_size, 2, 3))
    assert min(sizes) in (5, 6)  # with the corners of the finest grid there is one voxel more


@pytest.mark.parametrize(("name", "head"), HEADS)
def test_a_new_network_is_the_identity(
    name: str, head: str, network: Networks, batch: Batches
) -> None:
    prediction = network(name, head)(batch(*SHAPE))
    assert prediction.disp.shape == (1, 3, *SHAPE)
    assert (prediction.disp == 0).all()


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_network_has_the_size_that_its_config_says(name: str, network: Networks) -> None:
    assert sum(p.numel() for p in network(name).parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", PARAMETERS)
def test_any_size_goes_in_and_the_same_size_comes_out(
    name: str, network: Networks, batch: Batches, awake: Awake
) -> None:
    """The weights do not depend on the size, and a pair's field not on its neighbour's."""
    model = awake(network(name))
    for shape in (SHAPE, (9, 8, 30)):
        pairs = batch(*shape, pairs=2)
        prediction = model(pairs)
        assert prediction.disp.shape == (2, 3, *shape)
        assert prediction.disp.abs().max() > 0
        assert prediction.levels == ()
        alone = model({key: value[1:] for key, value in pairs.items()})
        assert (alone.disp[0] - prediction.disp[1]).abs().max() < 1e-3 * alone.disp.abs().max()


@pytest.mark.parametrize("name", PARAMETERS)
def test_gradients_reach_every_weight(
    name: str, network: Networks, batch: Batches, awake: Awake
) -> None:
    model = awake(network(name)).train()
    prediction: Prediction = model(batch(*SHAPE))
    fields = [prediction.disp, *(level.disp for level in prediction.levels)]
    torch.stack([field.square().mean() for field in fields]).sum().backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name == "pyramid_gunnarsson" else name
        for name in PARAMETERS
    ],
)
def test_bf16_autocast_stays_close_and_returns_float32(
    name: str, network: Networks, batch: Batches, awake: Awake
) -> None:
    few = name in (
        "siamese_unet",
        "vfa",
    )  # normalise 16 times coarser maps, which needs some voxels
    model, pair = awake(network(name)), batch(*((33, 36, 40) if few else SHAPE))
    exact = model(pair).disp
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = model(pair).disp
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().mean() < 0.1 * exact.abs().mean()


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_order_of_fixed_and_moving_matters(
    name: str, network: Networks, batch: Batches, awake: Awake
) -> None:
    model, pair = awake(network(name)), batch(*SHAPE)
    swapped = {"fixed": pair["moving"], "moving": pair["fixed"]}
    assert not torch.allclose(model(pair).disp, model(swapped).disp)


def trains(root: Path, flavour: str, *overrides: str) -> bool:
    """Train on small phantoms, two steps unless told otherwise; return whether weights moved."""
    small = ["trainer.max_steps=2", "trainer.validate_every=0", "device=cpu", "data.cache=null"]
    data = [f"task.flavour={flavour}", f"+task.root={root}", "task.pairs=3"]
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose("train", overrides=[*small, *data, *overrides, "run_dir=run"])
    plain = OmegaConf.to_container(config, resolve=True)
    trainer = prepare_training(plain)  # type: ignore[arg-type]
    before = [p.clone() for p in trainer.model.parameters()]
    trainer.run()
    after = trainer.model.parameters()
    moved = not all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    return trainer.finished and moved


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_network_takes_two_steps_on_small_phantoms(
    name: str, phantoms: dict[str, Path]
) -> None:
    grid = ["model.grid=[16,12,17]"] if name == "pyramid_gunnarsson" else []
    assert trains(phantoms["lung"], "lung", f"model={name}", *grid)


def test_a_segmenting_network_takes_two_steps_in_both_directions(
    phantoms: dict[str, Path],
) -> None:
    segmenting = [
        "model=siamese_unet",
        "model.segmentation_labels=4",
        "loss.weights.segmentation=1",
    ]
    assert trains(phantoms["abdomen"], "abdomen", *segmenting, "trainer.symmetric=true")
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert all(line["train/segmentation"] > 0 for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("loss", preset_names("loss"))
@pytest.mark.parametrize("flavour", ["lung", "abdomen", "oasis"])
@pytest.mark.parametrize(("name", "head"), HEADS)
def test_every_network_takes_two_steps_with_every_head_loss_and_task(
    name: str, flavour: str, loss: str, head: str, phantoms: dict[str, Path]
) -> None:
    overrides = [f"model={name}", head, f"loss={loss}", "loss.weights.dice=1.0"]
    assert trains(phantoms[flavour], flavour, "model.grid=[20,18,22]", *overrides)


@pytest.mark.slow
@pytest.mark.parametrize("name", PARAMETERS)
def test_a_network_overfits_one_pair(name: str, phantoms: dict[str, Path]) -> None:
    """An overfit check, no result: the error at its training keypoints falls by 90 %."""
    steps, rate = OVERFIT[name]
    assert trains(phantoms["lung"], "lung", f"model={name}", "model.grid=[16,12,17]",
          f"trainer.max_steps={steps}", f"optimizer.lr={rate}", "data.exclude=[3]",
          "data.augment=null", "loss.weights.keypoints=1")  # fmt: skip
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    squares = [line["train/keypoints"] for line in lines]
    assert (sum(squares[-10:]) / 10 / squares[0]) ** 0.5 < 0.1
