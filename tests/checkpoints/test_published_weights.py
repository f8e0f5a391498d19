import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import map_coordinates
from torch import Tensor

from l2reg.checkpoints import storage
from l2reg.checkpoints.published_weights import import_weights
from l2reg.checkpoints.trained_model import load_trained_model
from l2reg.config.build import build
from l2reg.inference.predictor import Predictor
from l2reg.inference.prepare import prepare_method
from l2reg.models.lapirn import LapIRN
from l2reg.problems import InputError
from l2reg.training.setup import prepare_training
from l2reg.training.warm_start import warm_start

Composed = Callable[..., dict[str, Any]]

LEVELS = ("model_lvl2.model_lvl1.", "model_lvl2.", "")
HIDDEN = 5


def published(*, width: int = 6, encoder: int = 6, conditional: bool = False) -> dict[str, Tensor]:
    """Return random weights under the published names: three levels of two residual blocks."""
    torch.manual_seed(0)
    tensors = {}
    for level, prefix in enumerate(LEVELS):
        enlarged = encoder if level == 2 else width
        mean = (enlarged + encoder) // 2
        convolutions = {
            "input_encoder_lvl1.0": (encoder, 2 if level == 0 else 5),
            "input_encoder_lvl1.2": (encoder, encoder),
            "down_conv": (width, encoder),
            "output_lvl1.0": (mean, enlarged + encoder),
            "output_lvl1.2": (3, mean),
        }
        for block in (0, 2):
            name = f"resblock_group_lvl1.{block}"
            convolutions |= {f"{name}.conv{n}": (width, width) for n in (1, 2)}
            if conditional:
                for part, sizes in {
                    "ai1.style": (2 * width, HIDDEN), "ai2.style": (2 * width, HIDDEN),
                    "mapping.0": (HIDDEN, 1),
                    **{f"mapping.{n}": (HIDDEN, HIDDEN) for n in (2, 4, 6)},
                }.items():  # fmt: skip
                    tensors[f"{prefix}{name}.{part}.weight"] = torch.randn(sizes)
                    tensors[f"{prefix}{name}.{part}.bias"] = torch.randn(sizes[0])
        for name, (out, into) in convolutions.items():
            tensors[f"{prefix}{name}.weight"] = torch.randn(out, into, 3, 3, 3) / (5 * into**0.5)
        tensors[f"{prefix}up.weight"] = torch.randn(width, enlarged, 2, 2, 2) / width**0.5
    return tensors


def reference(
    tensors: dict[str, Tensor],
    fixed: Tensor,
    moving: Tensor,
    code: float | None = None,
    *,
    velocity: bool = False,
) -> Tensor:
    """Return the published network's field in voxels, ``(1, 3, i, j, k)``.

    Inside, components are along (k, j, i), in halves of the volume.
    """
    pyramid = [torch.cat([moving, fixed], dim=1)]
    for _ in range(2):
        pyramid.insert(0, F.avg_pool3d(pyramid[0], 3, 2, 1, count_include_pad=False))
    total = field = embedding = None
    for prefix, images in zip(LEVELS, pyramid, strict=True):
        inputs = images
        if total is not None and field is not None:
            total, field = (
                F.interpolate(f, scale_factor=2, mode="trilinear") for f in (total, field)
            )
            inputs = torch.cat([sample(images[:, :1], field), images[:, 1:], total], dim=1)
        weights = {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
        added, embedding = one_level(weights, inputs, embedding, code)
        total = added if total is None else total + added
        field = total
        if velocity:
            field = total / 2**7
            for _ in range(7):
                field = field + sample(field, field)
    assert field is not None
    return field.flip(1) * (torch.tensor(field.shape[2:]).view(3, 1, 1, 1) - 1) / 2


def one_level(
    weights: dict[str, Tensor], inputs: Tensor, embedding: Tensor | None, code: float | None
) -> tuple[Tensor, Tensor]:
    def convolved(name: str, maps: Tensor, stride: int = 1) -> Tensor:
        return F.conv3d(maps, weights[f"{name}.weight"], stride=stride, padding=1)

    def linear(name: str, values: Tensor) -> Tensor:
        return F.linear(values, weights[f"{name}.weight"], weights[f"{name}.bias"])

    skip = convolved("input_encoder_lvl1.2", leaky(convolved("input_encoder_lvl1.0", inputs)))
    maps = convolved("down_conv", skip, 2)
    if embedding is not None:
        maps = maps + embedding
    for block in ("resblock_group_lvl1.0", "resblock_group_lvl1.2"):
        result = maps
        for n in (1, 2):
            if code is not None:
                latent = torch.tensor([code])
                for layer in (0, 2, 4, 6):
                    latent = leaky(linear(f"{block}.mapping.{layer}", latent))
                gamma, beta = linear(f"{block}.ai{n}.style", latent).view(2, -1, 1, 1, 1)
                mean, var = (
                    result.mean((2, 3, 4), keepdim=True),
                    result.var((2, 3, 4), keepdim=True, unbiased=False),
                )
                result = (1 + gamma) * (result - mean) / (var + 1e-5).sqrt() + beta
            result = convolved(f"{block}.conv{n}", leaky(result))
        maps = leaky(maps + result)
    maps = F.conv_transpose3d(maps, weights["up.weight"], stride=2)
    decoded = leaky(convolved("output_lvl1.0", torch.cat([maps, skip], dim=1)))
    return 0.4 * F.softsign(convolved("output_lvl1.2", decoded)), maps


def leaky(values: Tensor) -> Tensor:
    return F.leaky_relu(values, 0.2)


def sample(image: Tensor, flow: Tensor) -> Tensor:
    shape = np.array(flow.shape[2:]).reshape(3, 1, 1, 1)
    offsets = flow[0].flip(0).numpy() * (shape - 1) / 2
    positions = np.indices(flow.shape[2:]) + offsets
    sampled = [map_coordinates(c, positions, order=1, mode="nearest") for c in image[0].numpy()]
    return torch.from_numpy(np.stack(sampled))[None]


def imported(tensors: Any, model: str = "lapirn", name: str = "net_disp.pth") -> LapIRN:
    torch.save(tensors, name)
    import_weights(Path(name), model, None, Path("run"))
    network = load_trained_model(Path("run"), {}).model
    assert isinstance(network, LapIRN)
    return network.eval()


def pair_of(*shape: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.rand(1, 1, *shape, generator=generator) for name in ("fixed", "moving")}


@pytest.mark.parametrize("name", ["net_disp.pth", "net_diff.pth"])
def test_an_imported_network_gives_the_field_of_the_published_one(name: str) -> None:
    tensors, pair = published(), pair_of(16, 24, 32)
    with torch.no_grad():
        expected = reference(tensors, **pair, velocity="diff" in name)
        prediction = imported(tensors, name=name)(pair)
    assert expected.abs().max() > 0.5
    assert (prediction.disp - expected).abs().max() < 1e-4
    assert (prediction.velocity is not None) == ("diff" in name)


@pytest.mark.parametrize("encoder", [4, 6])
def test_an_imported_conditional_network_takes_ten_times_the_published_smoothness(
    encoder: int,
) -> None:
    tensors, pair = published(encoder=encoder, conditional=True), pair_of(16, 24, 32)
    network = imported(tensors, "clapirn", "lite.pth")
    assert network.smoothness == 1.0
    for code in (0.1, 0.7):
        network.smoothness = 10 * code
        with torch.no_grad():
            expected = reference(tensors, **pair, code=code)
            assert expected.abs().max() > 0.5
            assert (network(pair).disp - expected).abs().max() < 1e-4


@pytest.mark.published
@pytest.mark.parametrize(
    ("name", "field", "smoothness"),
    [
        ("LapIRN_disp_fea7", "lapirn_disp", None),
        ("LapIRN_diff_fea7", "lapirn_diff", None),
        ("clapirn_lite", "clapirn_lite_0.1", 1.0),
        ("clapirn_lite", "clapirn_lite_0.4", 4.0),
    ],
)
def test_the_published_networks_give_the_fields_of_the_authors_code(
    name: str, field: str, smoothness: float | None
) -> None:
    folder = Path(os.environ["L2REG_PUBLISHED"])
    model = "lapirn" if smoothness is None else "clapirn"
    import_weights(folder / f"{name}.pth", model, None, Path("run"))
    network = load_trained_model(Path("run"), {}).model.eval()
    network.smoothness = smoothness  # type: ignore[assignment]
    with np.load(folder / "pair.npz") as pair, np.load(folder / "expected.npz") as expected:
        batch = {k: torch.from_numpy(pair[k])[None, None] for k in ("fixed", "moving")}
        with torch.no_grad():
            disp = network(batch).disp[0].numpy()
        assert np.abs(disp - expected[field]).max() < 1e-4


def test_sizes_that_cannot_be_halved_are_padded() -> None:
    network = imported(published())
    assert network(pair_of(15, 18, 25)).disp.shape == (1, 3, 15, 18, 25)


def changed(name: str, tensor: Tensor | None = None) -> dict[str, Tensor]:
    """Return weights with another tensor of this name, or without it."""
    others = {key: value for key, value in published().items() if key != name}
    return others if tensor is None else others | {name: tensor}


STAGE_2 = {
    name.removeprefix("model_lvl2."): tensor
    for name, tensor in published().items()
    if name.startswith("model_lvl2.")
}
REFUSED = [
    (published(conditional=True), "lapirn", r"found +a conditional network.*--model clapirn"),
    (published(), "clapirn", r"found +an unconditional network.*--model lapirn"),
    ({f"module.{k}": t for k, t in published().items()}, "lapirn", "module.model_lvl2.*27 more"),
    (STAGE_2, "lapirn", "model_lvl1.input_encoder.*last of three stages"),
    ({k: t for k, t in published().items() if "lvl2." not in k}, "lapirn", "no levels.0.encode"),
    (changed("up.weight"), "lapirn", "found +no levels.2.enlarge.weight\n"),
    (changed("up.weight", torch.ones(6, 7, 2, 2, 2)), "lapirn", r"enlarge.weight \(6, 7, 2"),
    (changed("down_conv.weight", torch.ones(6, 6, 3, 3)), "lapirn", r"encode.0.weight \(6"),
    (changed("resblock_group_lvl1.1.conv1.weight", torch.ones(1)), "lapirn", "no such network has"),
    ({}, "lapirn", "something else"),
    ([torch.ones(2)], "lapirn", "something else than named tensors"),
    ({"format": 3, "model": published()}, "lapirn", "something else than named tensors"),
]


@pytest.mark.parametrize(("tensors", "model", "words"), REFUSED)
def test_what_is_no_such_network_is_refused(tensors: Any, model: str, words: str) -> None:
    torch.save(tensors, "disp.pth")
    with pytest.raises(InputError, match=rf"(?s)disp\.pth: does not hold the weights.*{words}"):
        import_weights(Path("disp.pth"), model, None, Path("run"))
    assert not Path("run").exists()


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("owned",)


def test_a_file_that_would_run_code_or_is_damaged_is_refused() -> None:
    torch.save({"up.weight": Evil()}, "evil.pth")
    Path("text.pth").write_text("hello")
    for name in ("evil.pth", "text.pth"):
        with pytest.raises(InputError, match=f"{name}: is damaged or is not a checkpoint"):
            import_weights(Path(name), "lapirn", None, Path("run"))
    with pytest.raises(InputError, match=r"none\.pth: is missing"):
        import_weights(Path("none.pth"), "lapirn", None, Path("run"))
    assert not Path("owned").exists()


def test_a_published_file_named_as_a_checkpoint_is_refused_with_the_command() -> None:
    torch.save(published(), "net_disp.pth")
    with pytest.raises(InputError, match=r"(?s)has another format.*l2reg import-weights"):
        storage.load(Path("net_disp.pth"))


def test_the_head_is_asked_for_if_the_name_of_the_file_does_not_tell() -> None:
    torch.save(published(), "net.pth")
    with pytest.raises(InputError, match=r"(?s)displacements or velocities.*--head velocity"):
        import_weights(Path("net.pth"), "lapirn", None, Path("run"))
    assert import_weights(Path("net.pth"), "lapirn", "velocity", Path("run"))["head"] == "velocity"
    torch.save(published(), "diff.pth")
    node = import_weights(Path("diff.pth"), "lapirn", "displacement", Path("told"))
    assert node["head"] == "displacement"


def test_a_run_that_exists_stays() -> None:
    network = imported(published())
    with pytest.raises(InputError, match="run"):
        imported(published(width=4, encoder=4))
    again = load_trained_model(Path("run"), {}).model
    assert all(
        torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True)
    )


def test_an_imported_network_is_trained_on_and_both_say_that_they_may_know_the_pairs(
    composed: Composed,
) -> None:
    imported(published())
    model = ["width=6", "blocks=2", "grid=[16,24,20]", "stages=[0.0,0.0,1.0]",
             "published_pyramid=true"]  # fmt: skip
    config = composed("train", "model=lapirn", *(f"model.{option}" for option in model),
                      "trainer.max_steps=1", "trainer.validate_every=0", "device=cpu",
                      "init_from=run", flavour="oasis")  # fmt: skip
    before = load_trained_model(Path("run"), {}).model.state_dict()
    trainer = prepare_training({**config, "run_dir": "on"})
    assert all(torch.equal(t, before[n]) for n, t in trainer.model.state_dict().items())
    trainer.run()
    data = build(config["data"], task=build(config["task"]))
    notes = {run: load_trained_model(Path(run), {}).leakage_notes(data.split_pairs("val"))
             for run in ("run", "on")}  # fmt: skip
    assert notes["run"] == notes["on"]
    assert re.match(r"its weights come from net_disp\.pth.*OASIS.*may be among them", *notes["on"])
    assert re.match(r"net_disp\.pth \(SHA-256 [0-9a-f]{64}\)",
                    load_trained_model(Path("on"), {}).origin.started_from[0])  # fmt: skip


def test_weights_of_the_published_pyramid_start_no_network_on_other_grids() -> None:
    imported(published())
    node = storage.load(Path("run/best.pt"))["config"]["model"]
    with pytest.raises(InputError, match=r"on other grids\n.*model\.published_pyramid=true"):
        warm_start(build({**node, "published_pyramid": False}), Path("run"))


def test_an_imported_network_predicts_and_is_refined(composed: Composed) -> None:
    imported(published())
    keys = {"ckpt": "run", "task": "oasis", "refine": "gauss_newton", "device": "cpu"}
    config = composed("predict", *(f"{key}={value}" for key, value in keys.items()))
    ready = prepare_method(config, list(keys))
    ready.method.model.grid = (16, 24, 20)
    assert ready.method.refinement is not None
    assert ready.config["task"]["name"] == "oasis"
    phantom = composed("train", flavour="oasis")
    data = build(phantom["data"], task=build(phantom["task"]))
    disp = Predictor(ready.method, data.reader).register(data.split_pairs("val")[0])
    assert disp.isfinite().all()
    assert disp.abs().max() > 0.5
