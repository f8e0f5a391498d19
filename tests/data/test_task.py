from collections.abc import Callable
from dataclasses import replace

import pytest

from l2reg.config.build import build
from l2reg.config.presets import load_preset
from l2reg.data.task import ScanFiles, Task
from l2reg.problems import InputError


@pytest.mark.parametrize(
    ("name", "folder", "shape", "half", "n_labels", "n_val", "n_test"),
    [
        ("abdomen", "task_01", (192, 160, 192), (96, 80, 96), 4, 3, 8),
        ("lung", "task_02", (192, 192, 208), (96, 96, 104), 0, 3, 10),
        ("oasis", "task_03", (160, 192, 224), (80, 96, 112), 35, 19, 38),
    ],
)
def test_the_tasks_are_those_of_the_challenge(
    name: str, folder: str, shape: tuple[int, ...], half: tuple[int, ...], n_labels: int,
    n_val: int, n_test: int,
) -> None:  # fmt: skip
    task: Task = build(load_preset("task", name))
    assert task.folder == folder
    assert task.shape == shape
    assert tuple(n // 2 for n in task.shape) == half
    assert sorted(task.labels) == list(range(1, n_labels + 1))
    for layout in task.layouts.values():
        assert (len(layout.val), len(layout.test)) == (n_val, n_test)


def test_the_lung_is_masked_by_both_rules_and_the_abdomen_by_the_current() -> None:
    masked = {n: build(load_preset("task", n)).sdlogj_masked for n in ("abdomen", "lung", "oasis")}
    assert masked == {"abdomen": ["current"], "lung": ["2021", "current"], "oasis": []}


@pytest.mark.parametrize(
    ("name", "current", "official"),
    [
        ("abdomen", [1, 6, 7, 8, 9, 16], [2, 12, 14, 16, 1, 15]),
        ("lung", [1, 21], [1, 21]),
        ("oasis", [395, 414, 415, 453], [438, 457, 1, 39]),
    ],
)
def test_renumbered_ids_go_back_to_those_of_2021_and_forth_again(
    name: str, current: list[int], official: list[int]
) -> None:
    layout = build(load_preset("task", name)).layouts["current"]
    assert [layout.official_id(number) for number in current] == official
    assert [layout.id_of_official(number) for number in official] == current


def test_impossible_tasks_are_refused(tiny_task: Callable[..., Task]) -> None:
    task = tiny_task("lung")
    with pytest.raises(
        InputError,
        match=r"(?s)shape=\[3, 4\].*expected  a list of 3 integers\n.*found     \[3, 4\]",
    ):
        build(load_preset("task", "lung") | {"shape": [3, 4]})
    with pytest.raises(ValueError, match="shape must be positive"):
        replace(task, shape=(3, 0, 4))
    with pytest.raises(ValueError, match="spacing_mm must be positive"):
        replace(task, spacing_mm=(1.0, 0.0, 1.0))
    layout = replace(
        task.layouts["2021"], fixed=ScanFiles(modality="PET", image="x_{id:03}.nii.gz")
    )
    with pytest.raises(ValueError, match=r"\['PET'\] have no intensity"):
        replace(task, layouts={"2021": layout})
