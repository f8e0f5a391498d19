"""The examples of the docstring and the docs run as they stand."""

import re
import runpy
import textwrap
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from scipy.ndimage import gaussian_filter

import l2reg
from l2reg.config.build import build
from l2reg.config.presets import load_preset
from l2reg.own_data.check import own_problems
from l2reg.own_data.dataset import OwnDataset
from l2reg.planning.complete import unplanned_task
from l2reg.registration.initial_map import InitialMap
from l2reg.transforms.image_grid import read_grid

ROOT = Path(__file__).parents[1]
COMMANDS = ROOT / "docs/commands.md"


def python_blocks(text: str) -> list[str]:
    """Return the indented blocks of a text that use the package."""
    blocks = re.findall(r"(?:^(?:    .*)?\n)+", text, flags=re.MULTILINE)
    return [textwrap.dedent(block) for block in blocks if "import l2reg" in block]


@pytest.fixture
def scans(random: np.random.Generator) -> np.ndarray:
    """The files that the examples name; returns points."""
    body = gaussian_filter(random.normal(size=(16, 14, 15)), 1.5).astype(np.float32)
    body -= body.min() - 0.1
    affine = np.diag([9.0, 8, 7, 1])
    for name, part in (("fixed", body[1:]), ("moving", body[:-1])):
        nib.save(nib.Nifti1Image(part, affine), f"{name}.nii.gz")
        labels = (part > np.median(part)).astype(np.uint8)
        nib.save(nib.Nifti1Image(labels, affine), f"{name}_labels.nii.gz")
    sitk.WriteTransform(sitk.AffineTransform(3), "0GenericAffine.mat")
    return np.array([[20.0, 30, 40], [60, 50, 40]])


@pytest.fixture
def no_search() -> Iterator[None]:
    """Registration ends where the headers place the scans."""
    with (
        patch("l2reg.inference.method.Method.solve", return_value=torch.zeros(1, 3, 8, 8, 8)),
        patch("l2reg.registration.register.InitialMapSearch.__call__", by_headers),
    ):
        yield


def by_headers(_: object, __: object, header_map: torch.Tensor, ___: str) -> InitialMap:
    return InitialMap(header_map, "headers", 0.9, 0.9, 0.0, 0.0)


@pytest.mark.parametrize("text", [l2reg.__doc__, COMMANDS.read_text()], ids=["docstring", "docs"])
def test_the_examples_run_as_they_stand(scans: np.ndarray, no_search: None, text: str) -> None:
    (block,) = python_blocks(text)
    exec(block, {"points": scans})
    written = {path.name for path in Path().iterdir()}
    assert written & {"transform.h5", "y_moving.nii"}


def test_images_in_memory_are_registered_as_their_files(scans: np.ndarray, no_search: None) -> None:
    by_name = l2reg.register("fixed.nii.gz", "moving.nii.gz", device="cpu")
    fixed, moving = nib.load("fixed.nii.gz"), sitk.ReadImage("moving.nii.gz")
    in_memory = l2reg.register((fixed.get_fdata(), fixed.affine), moving, device="cpu")
    np.testing.assert_allclose(in_memory.points(scans), by_name.points(scans), atol=1e-3)
    warped = np.asarray(in_memory.warp().dataobj)
    np.testing.assert_allclose(warped, np.asarray(by_name.warp().dataobj), atol=1e-4)


@pytest.mark.slow
def test_the_table_of_the_walk_through_has_no_problem(phantoms: dict[str, Path]) -> None:
    example = runpy.run_path(str(ROOT / "examples/own_table.py"))
    example["main"](phantoms["lung"], Path("my"))
    node = load_preset("data", "own") | {"pairs": "my/pairs.csv", "coordinates": "ras", "seed": 0}
    data: OwnDataset = build(node | {"cache": None}, task=unplanned_task())
    assert own_problems(data, data.table.rows) == []
    assert len(data.splits.rows["train"]) == 2
    grids = {read_grid(scan.image).shape for scan in data.table.scans}
    assert len(grids) == 2
