from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch

from l2reg.data.dataset import Dataset
from l2reg.inference.outputs import check_extras, extra_problems, save_extras
from l2reg.phantom.make import phantom_task
from l2reg.problems import InputError


@pytest.mark.parametrize("flavour", ["abdomen", "lung"])
def test_extras_lie_on_the_fixed_scans_grid_and_show_the_moving_one(
    phantoms: dict[str, Path], open_data: Callable[..., Dataset], tmp_path: Path, flavour: str
) -> None:
    task = phantom_task(flavour, "small", 0, 3, root=phantoms[flavour])
    pair = open_data(task).split_pairs("val")[0]
    true = np.load(phantoms[flavour] / task.folder / f"truth/disp_{pair.name}.npz")["arr_0"]
    full = torch.from_numpy(true.astype(np.float32))[None]
    save_extras(tmp_path / "extra", pair, full, ["warped", "labels", "grid", "transform"])
    kinds = {"warped", "grid", "transform"} | ({"labels"} if flavour == "abdomen" else set())
    files = {path.name.split("_")[0]: nib.load(path) for path in (tmp_path / "extra").iterdir()}
    assert set(files) == kinds
    fixed = nib.load(pair.fixed.image)
    for image in files.values():
        np.testing.assert_allclose(image.affine, fixed.affine)
        assert image.shape[:3] == fixed.shape
    if flavour == "lung":
        moving = nib.load(pair.moving.image)
        before, after = (
            np.abs(fixed.get_fdata() - other.get_fdata()).mean()
            for other in (moving, files["warped"])
        )
        assert after < 0.5 * before
    else:
        assert set(np.unique(files["labels"].get_fdata())) <= {0, 1, 2, 3, 4}


def test_extras_lie_where_itk_sees_a_fixed_scan_whose_forms_disagree(
    phantoms: dict[str, Path], open_data: Callable[..., Dataset], tmp_path: Path
) -> None:
    task = phantom_task("abdomen", "small", 0, 3, root=phantoms["abdomen"])
    pair = open_data(task).split_pairs("val")[0]
    image = nib.load(pair.fixed.image)
    turned = np.array([[0, -1, 0, 20], [1, 0, 0, -8], [0, 0, 1, 5], [0, 0, 0, 1]]) @ image.affine
    image.set_qform(turned, code=1)
    image.set_sform(image.affine, code=4)
    nib.save(image, tmp_path / "fixed.nii.gz")
    pair = replace(pair, fixed=replace(pair.fixed, image=tmp_path / "fixed.nii.gz"))
    full = torch.zeros(1, 3, *image.shape)
    save_extras(tmp_path / "extra", pair, full, ["warped", "labels", "grid", "transform"])
    fixed = sitk.ReadImage(str(tmp_path / "fixed.nii.gz"))
    np.testing.assert_allclose(fixed.GetOrigin(), turned[:3, 3] * [-1, -1, 1], atol=1e-3)
    written = list((tmp_path / "extra").iterdir())
    assert len(written) == 4
    for path in written:
        found = sitk.ReadImage(str(path))
        for get in ("GetOrigin", "GetSpacing", "GetDirection"):
            there = getattr(fixed, get)()
            np.testing.assert_allclose(getattr(found, get)(), there, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("flavour", "fill"), [("abdomen", -1024), ("oasis", 0)])
def test_beyond_the_moving_scan_a_warped_one_holds_air_or_its_lowest_intensity(
    phantoms: dict[str, Path],
    open_data: Callable[..., Dataset],
    tmp_path: Path,
    flavour: str,
    fill: int,
) -> None:
    pair = open_data(phantom_task(flavour, "small", 0, 3, root=phantoms[flavour])).split_pairs(
        "val"
    )[0]
    moving = nib.load(pair.moving.image).get_fdata()
    full = torch.zeros(1, 3, *moving.shape)
    full[0, 2] = 20
    save_extras(tmp_path / "extra", pair, full, ["warped"])
    (path,) = (tmp_path / "extra").iterdir()
    assert nib.load(path).get_data_dtype() == nib.load(pair.moving.image).get_data_dtype()
    warped = nib.load(path).get_fdata()
    assert (warped[:, :, -20:] == fill).all()
    np.testing.assert_allclose(warped[:, :, :-20], moving[:, :, 20:], atol=0.1)


def test_nothing_asked_nothing_written(
    phantoms: dict[str, Path], open_data: Callable[..., Dataset], tmp_path: Path
) -> None:
    pair = open_data(phantom_task("lung", "small", 0, 3, root=phantoms["lung"])).split_pairs("val")[
        0
    ]
    save_extras(tmp_path / "extra", pair, torch.zeros(1, 3, 72, 64, 80), [])
    assert not (tmp_path / "extra").exists()


def test_an_unknown_extra_is_refused() -> None:
    check_extras(["warped", "transform"])
    with pytest.raises(InputError, match=r"(?s)warped, labels, grid, transform.*\['wraped'\]"):
        check_extras(["wraped"])


def test_headers_are_checked_of_the_files_whose_place_is_needed(
    phantoms: dict[str, Path], open_data: Callable[..., Dataset], tmp_path: Path
) -> None:
    pair = open_data(phantom_task("oasis", "small", 0, 3, root=phantoms["oasis"])).split_pairs(
        "val"
    )[0]
    image = nib.load(pair.moving.image)
    sheared = image.affine.copy()
    sheared[0, 2] = 0.5
    bad = nib.Nifti1Image(np.asarray(image.dataobj), sheared)
    bad.set_qform(None, code=0)
    nib.save(bad, tmp_path / "bad.nii.gz")
    scan = replace(pair.moving, image=tmp_path / "bad.nii.gz")
    for faulty, save, found in (
        (replace(pair, moving=scan), ["warped", "labels", "grid"], 0),
        (replace(pair, moving=scan), ["transform"], 1),
        (replace(pair, fixed=scan), ["grid"], 1),
        (replace(pair, fixed=scan), [], 0),
    ):
        assert len(extra_problems([pair, faulty], save)) == found
