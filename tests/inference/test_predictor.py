from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from l2reg.data.dataset import Dataset
from l2reg.data.phantom import phantom_task
from l2reg.geometry.affine import affine_field
from l2reg.inference.predictor import Predictor
from l2reg.models.unet import UNet
from l2reg.models.zero import Zero

CPU = torch.device("cpu")


def network() -> UNet:
    torch.manual_seed(0)
    model = UNet([4, 6], [6], [], "displacement", "half")
    nn.init.normal_(model.head.conv.weight, std=0.2)
    return model


@pytest.fixture
def lung(phantoms: dict[str, Path], open_data: Callable[..., Dataset]) -> Dataset:
    return open_data(phantom_task("lung", "small", 0, 3, root=phantoms["lung"]))


def test_a_pair_gives_the_same_field_whatever_was_predicted_before(lung: Dataset) -> None:
    a, b = lung.training_set.listed
    predictor = Predictor(network(), lung.reader("half"), CPU, "float32")
    predictor.warm_up()
    predictor.register(a)
    after = predictor.register(b)
    fresh = Predictor(network(), lung.reader("half"), CPU, "float32").register(b)
    assert torch.equal(after, fresh)


def test_predicting_leaves_the_model_and_the_random_stream_as_they_were(lung: Dataset) -> None:
    model = network()
    model.final.append(nn.Dropout(0.5))
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    stream = torch.get_rng_state()
    field = Predictor(model, lung.reader("half"), CPU, "float32").register(lung.listed("val")[0])
    assert model.training
    assert not field.requires_grad
    assert torch.equal(torch.get_rng_state(), stream)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_the_prealignment_is_part_of_the_field(
    phantoms: dict[str, Path], open_data: Callable[..., Dataset]
) -> None:
    task = phantom_task("abdomen", "small", 0, 3, root=phantoms["abdomen"])
    data = open_data(task, prealign="mask_centre")
    pair = data.listed("val")[0]
    predictor = Predictor(Zero("half"), data.reader("half"), CPU, "float32")
    matrix = predictor.batch(pair)["prealign"]
    assert matrix[0, :, 3].abs().max() > 1
    torch.testing.assert_close(predictor.register(pair), affine_field(matrix, (36, 30, 38)))


def test_bf16_stays_close(lung: Dataset) -> None:
    pair = lung.listed("val")[0]
    exact, rough = (
        Predictor(network(), lung.reader("half"), CPU, precision).register(pair)
        for precision in ("float32", "bf16")
    )
    assert rough.dtype == torch.float32
    assert (exact - rough).abs().max() < 0.05 * exact.abs().max()
