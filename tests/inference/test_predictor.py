from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from l2reg.batch import Batch
from l2reg.config.build import build
from l2reg.config.presets import load_preset
from l2reg.data.dataset import Dataset
from l2reg.evaluation.score_field import load_ground_truth, score_field
from l2reg.features.local_contrast import LocalContrast
from l2reg.geometry.affine import affine_field
from l2reg.geometry.resize import resize_field
from l2reg.inference.method import Method
from l2reg.inference.predictor import Predictor, noise_batch
from l2reg.inference.prepare import task_refinement
from l2reg.models.prediction import Prediction
from l2reg.models.unet import UNet
from l2reg.models.zero import Zero
from l2reg.optimisation.refinement import Refinement
from l2reg.phantom.make import phantom_task
from l2reg.submission.rules import RULES


def network() -> UNet:
    torch.manual_seed(0)
    model = UNet([4, 6], [6], [], "displacement", "half")
    nn.init.normal_(model.head.conv.weight, std=0.2)
    return model


@pytest.fixture
def lung(phantoms: dict[str, Path], open_data: Callable[..., Dataset]) -> Dataset:
    return open_data(phantom_task("lung", "small", 0, 3, root=phantoms["lung"]))


def test_a_pair_gives_the_same_field_whatever_was_predicted_before(lung: Dataset) -> None:
    a, b = lung.training_set.intra_patient
    predictor = Predictor(Method(network()), lung.reader)
    predictor.warm_up()
    predictor.register(a)
    after = predictor.register(b)
    fresh = Predictor(Method(network()), lung.reader).register(b)
    assert torch.equal(after, fresh)


def test_predicting_leaves_the_model_and_the_random_stream_as_they_were(lung: Dataset) -> None:
    model = network()
    model.final.append(nn.Dropout(0.5))
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    stream = torch.get_rng_state()
    field = Predictor(Method(model), lung.reader).register(lung.split_pairs("val")[0])
    assert model.training
    assert not field.requires_grad
    assert torch.equal(torch.get_rng_state(), stream)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_the_prealignment_is_part_of_the_field(
    phantoms: dict[str, Path], open_data: Callable[..., Dataset]
) -> None:
    task = phantom_task("abdomen", "small", 0, 3, root=phantoms["abdomen"])
    data = open_data(task, prealign="mask_centre")
    pair = data.split_pairs("val")[0]
    predictor = Predictor(Method(Zero("half")), data.reader)
    matrix = predictor.batch(pair)["prealign"]
    assert matrix[0, :, 3].abs().max() > 1
    torch.testing.assert_close(predictor.register(pair), affine_field(matrix, (36, 30, 38)))


def test_bf16_stays_close(lung: Dataset) -> None:
    pair = lung.split_pairs("val")[0]
    exact, rough = (
        Predictor(Method(network(), precision=precision), lung.reader).register(pair)
        for precision in ("float32", "bf16")
    )
    assert rough.dtype == torch.float32
    assert (exact - rough).abs().max() < 0.05 * exact.abs().max()


def refinement(grid: str, n_steps: int = 3, **changes: Any) -> Refinement:
    levels = [[4, 1, n_steps], [2, 1, n_steps], [1, 2, n_steps]]
    return replace(
        task_refinement("lung"), grid=grid, features=LocalContrast(1, 1e-4), levels=levels,
        elastic=0.03, viscous=0.1, **changes,
    )  # fmt: skip


@pytest.mark.parametrize("grid", ["half", "full"])
@pytest.mark.parametrize("model", [Zero("half"), network()])
def test_refining_brings_landmarks_closer_whatever_the_model(
    lung: Dataset, grid: str, model: nn.Module
) -> None:
    pair, task = lung.split_pairs("val")[0], lung.release.task
    truth = load_ground_truth(pair, task, RULES["2021"])

    def error(predictor: Predictor) -> float:
        full = resize_field(predictor.register(pair), task.shape)[0].numpy()
        return score_field(pair.name, full, truth, task, slow_metrics=False).values()["tre_mm"]

    refined = Predictor(Method(model, refinement(grid)), lung.reader)
    assert error(refined) < 0.6 * error(Predictor(Method(model), lung.reader))


def test_refining_one_pair_leaves_no_trace_for_the_next(lung: Dataset) -> None:
    a, b = lung.training_set.intra_patient
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    predictor = Predictor(Method(model, refinement("half", 2)), lung.reader)
    predictor.register(a)
    after = predictor.register(b)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    fresh = Predictor(Method(model, refinement("half", 2)), lung.reader)
    assert torch.equal(after, fresh.register(b))


def test_the_prealignment_is_part_of_a_refined_field_too(
    phantoms: dict[str, Path], open_data: Callable[..., Dataset]
) -> None:
    task = phantom_task("abdomen", "small", 0, 3, root=phantoms["abdomen"])
    data = open_data(task, prealign="mask_centre")
    pair = data.split_pairs("val")[0]
    stiff = replace(task_refinement("phantom"), levels=[[2, 4, 1]], elastic=1e6, viscous=1e6)
    predictor = Predictor(Method(Zero("half"), stiff), data.reader)
    matrix = data.reader("full").read(pair)["prealign"]
    field = resize_field(predictor.register(pair), task.shape)
    assert (field - affine_field(matrix, task.shape)).abs().mean() < 0.5


def test_only_networks_are_warmed_up(lung: Dataset) -> None:
    calls = []

    class Counting(Zero):
        def forward(self, batch: Batch) -> Prediction:
            calls.append(batch)
            return super().forward(batch)

    Predictor(Method(Counting("half")), lung.reader).warm_up()
    assert not calls
    weighted = Counting("half")
    weighted.scale = nn.Parameter(torch.ones(1))
    Predictor(Method(weighted), lung.reader).warm_up()
    assert len(calls) == 1


def test_a_pair_of_noise_is_solved_like_any_other(lung: Dataset) -> None:
    convex = build(load_preset("model", "convex") | {"levels": [[3, 2]]})
    predictor = Predictor(Method(convex, refinement("full", 1)), lung.reader)
    pairs = [noise_batch(lung.reader(grid)) for grid in ("half", "full")]
    assert torch.isfinite(predictor.solve(pairs)).all()


def test_neither_labels_nor_points_reach_a_model(lung: Dataset) -> None:
    pair = lung.training_set.intra_patient[0]
    assert pair.keypoints is not None
    (batch,) = Predictor(Method(Zero("half")), lung.reader).read(pair)
    assert batch["fixed_points"].shape == (1, 0, 3)
    assert not batch["fixed_labels"].any()
