from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from l2reg.data.dataset import Dataset
from l2reg.data.task import Task
from l2reg.phantom.make import phantom_task
from l2reg.submission.bundle import write_bundle, write_full_bundle
from l2reg.submission.convention_check import (
    AS_SPECIFIED,
    alternative_conventions,
    convention_warnings,
    likelier_convention,
)
from l2reg.submission.fields import (
    full_file_name,
    to_submission,
    write_field,
    write_full_field,
)
from l2reg.submission.rules import RULES

FLAVOURS = ("lung", "abdomen", "oasis")
CONVENTIONS = ("half values", "double values", "millimetres", "axes reversed", "first axes swapped",
            "last axes swapped", "wrong sign", "normalised", "normalised, axes reversed",
            "positions", "normalised positions, axes reversed")  # fmt: skip


def in_convention(half: np.ndarray, name: str, task: Task) -> np.ndarray:
    """Return a field of the rules' convention in another one."""
    grid = np.array(task.shape).reshape(3, 1, 1, 1)
    axes = [np.linspace(0, n - 1, m) for n, m in zip(task.shape, half.shape[1:], strict=True)]
    positions = half + np.stack(np.meshgrid(*axes, indexing="ij"))
    fields = {
        "half values": half / 2,
        "double values": half * 2,
        "millimetres": half * np.array(task.spacing_mm).reshape(3, 1, 1, 1),
        "axes reversed": half[::-1],
        "first axes swapped": half[[1, 0, 2]],
        "last axes swapped": half[[0, 2, 1]],
        "wrong sign": -half,
        "normalised": half * 2 / (grid - 1),
        "normalised, axes reversed": (half * 2 / (grid - 1))[::-1],
        "positions": positions,
        "normalised positions, axes reversed": (positions * 2 / (grid - 1) - 1)[::-1],
    }
    return fields[name].astype(np.float16)


@pytest.fixture
def data(phantoms: dict[str, Path], open_data: Callable[..., Dataset]) -> Callable[[str], Dataset]:
    def opened(flavour: str) -> Dataset:
        return open_data(phantom_task(flavour, "small", 0, 3, root=phantoms[flavour]))

    return opened


def true_field(data: Dataset) -> torch.Tensor:
    pair, folder = data.split_pairs("val")[0], data.release.folder
    with np.load(folder / f"truth/disp_{pair.name}.npz") as truth:
        return torch.from_numpy(truth["arr_0"].astype(np.float32))[None]


def warnings(data: Dataset, field: np.ndarray) -> list[str]:
    pair, folder = data.split_pairs("val")[0], data.release.task.folder
    write_field(Path("s") / folder, pair.name, field)
    write_bundle(Path("s"), folder, Path("s.zip"))
    return [
        problem.what
        for problem in convention_warnings(
            Path("s.zip"), [pair], data.reader("half"), RULES["2021"]
        )
    ]


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_good_field_gives_no_warning(data: Callable[[str], Dataset], flavour: str) -> None:
    opened = data(flavour)
    (half,) = to_submission(true_field(opened), opened.release.task.shape)
    assert warnings(opened, half) == []
    assert warnings(opened, (0.8 * half).astype(np.float16)) == []
    assert warnings(opened, np.zeros_like(half)) == []


@pytest.mark.parametrize(
    ("flavour", "name"),
    [("lung", name) for name in CONVENTIONS]
    + [(f, name) for f in ("abdomen", "oasis") for name in ("half values", "wrong sign")]
    + [("abdomen", "millimetres"), ("oasis", "normalised, axes reversed")],
)
def test_a_field_in_another_convention_is_recognised(
    data: Callable[[str], Dataset], flavour: str, name: str
) -> None:
    opened = data(flavour)
    task = opened.release.task
    (half,) = to_submission(true_field(opened), task.shape)
    assert warnings(opened, in_convention(half, name, task)) == [
        f"seems to hold fields in another convention: {name}"
    ]


def test_full_fields_are_recognised_too(data: Callable[[str], Dataset]) -> None:
    opened = data("lung")
    pair, task = opened.split_pairs("val")[0], opened.release.task
    write_full_field(Path("s"), full_file_name(pair, task), -true_field(opened)[0].numpy())
    write_full_bundle(Path("s"), Path("s.zip"))
    (problem,) = convention_warnings(Path("s.zip"), [pair], opened.reader("half"), RULES["current"])
    assert "wrong sign" in problem.what
    assert "submit its inverse" in problem.remedy


def test_every_convention_is_converted_back(
    data: Callable[[str], Dataset], random: np.random.Generator
) -> None:
    task = data("lung").release.task
    half = random.uniform(-3, 3, (3, 36, 32, 40))
    for name in CONVENTIONS:
        disp = torch.from_numpy(in_convention(half, name, task).astype(np.float64))[None]
        np.testing.assert_allclose(
            alternative_conventions(disp, task)[name][0].numpy(), half, atol=0.06
        )


def test_every_pair_must_agree() -> None:
    clear = {AS_SPECIFIED: 1.0, "wrong sign": 0.5}
    against = {AS_SPECIFIED: 1.0, "wrong sign": 1.1}
    assert likelier_convention([clear, clear]) == "wrong sign"
    assert likelier_convention([clear, against]) is None
    assert likelier_convention([{AS_SPECIFIED: 1.0, "wrong sign": 0.95}]) is None
