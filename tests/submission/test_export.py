from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from l2reg.data.pairs import Pair, Scan
from l2reg.data.task import Task
from l2reg.problems import InputError
from l2reg.submission.export import check_grid, export_field
from l2reg.submission.rules import RULES


def scan(number: int, official: int) -> Scan:
    return Scan(id=number, official_id=official, modality="MR", image=Path("x"), labels=None,
                mask=None)  # fmt: skip


def pair(fixed: tuple[int, int], moving: tuple[int, int]) -> Pair:
    return Pair(fixed=scan(*fixed), moving=scan(*moving))


@pytest.mark.parametrize(
    ("task", "ids", "old", "new"),
    [
        ("lung", ((1, 1), (1, 1)), "task_02/disp_0001_0001.npz", "disp_0001_0001.nii.gz"),
        ("abdomen", ((6, 12), (6, 12)), "task_01/disp_0012_0012.npz", "disp_0006_0006.nii.gz"),
        ("oasis", ((395, 438), (396, 439)), "task_03/disp_0438_0439.npz",
         "disp_0395_0000_0396_0000.nii.gz"),
    ],
)  # fmt: skip
def test_each_generation_of_rules_has_its_names_and_ids(
    tiny_task: Callable[..., Task], task: str, ids: tuple[tuple[int, int], ...], old: str, new: str
) -> None:
    """Ids and names of the current rules: the evaluation's public configs (eval_pairs)."""
    disp = torch.zeros(1, 3, 6, 5, 7)
    for rules, name in (("2021", old), ("current", new)):
        path = export_field(disp, pair(*ids), tiny_task(task), Path("s"), RULES[rules])
        assert path == Path("s") / name
        assert path.is_file()


def test_current_fields_are_full_with_the_component_last(
    tiny_task: Callable[..., Task], rng: torch.Generator
) -> None:
    disp = torch.randn(1, 3, 12, 10, 14, generator=rng)
    path = export_field(disp, pair((1, 1), (1, 1)), tiny_task("lung"), Path("s"), RULES["current"])
    image = nib.load(path)
    np.testing.assert_array_equal(np.asarray(image.dataobj), disp[0].movedim(0, -1).numpy())
    np.testing.assert_array_equal(image.affine, np.eye(4))
    assert image.get_data_dtype() == np.float32


def test_a_release_that_lies_otherwise_than_the_current_one_is_refused(
    tiny_task: Callable[..., Task],
) -> None:
    brains = replace(tiny_task("oasis"), shape=(160, 192, 224))
    check_grid(brains, RULES["2021"])
    check_grid(replace(brains, shape=(160, 224, 192)), RULES["current"])
    check_grid(tiny_task("lung"), RULES["current"])
    with pytest.raises(InputError, match="need the current release") as error:
        check_grid(brains, RULES["current"])
    assert "data.layout=current" in str(error.value)
