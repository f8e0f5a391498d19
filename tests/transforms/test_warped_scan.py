from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch

from l2reg.io.volumes import read_volume
from l2reg.transforms.itk import write_warp
from l2reg.transforms.warped_scan import fill_value, warped_scan

FIXED, MOVING = (14, 17, 11), (12, 16, 19)


def oblique(spacing: tuple[float, float, float], *, flip: bool) -> np.ndarray:
    a, b = 0.3, -0.2
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ tilt @ np.diag(spacing) @ np.diag([-1.0 if flip else 1.0, 1, 1])
    affine[:3, 3] = (5.0, -7.0, 3.0)
    return affine


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("lowest", [0.0, -3024.0])
def test_itk_resamples_alike_everywhere_with_the_fill_value(
    tmp_path: Path, random: np.random.Generator, lowest: float, flip: bool
) -> None:
    array = (lowest + 2000 * random.random(MOVING)).astype(np.float32)
    array[0, 0, 0] = lowest
    affines = oblique((1.5, 1.0, 2.0), flip=flip), oblique((1.2, 1.1, 1.7), flip=not flip)
    for name, voxels, affine in zip("ab", (np.zeros(FIXED, "f4"), array), affines, strict=True):
        nib.save(nib.Nifti1Image(voxels, affine), tmp_path / f"{name}.nii.gz")
    fixed, moving = (read_volume(tmp_path / f"{name}.nii.gz") for name in "ab")
    positions = np.array(MOVING).reshape(3, 1, 1, 1) * random.uniform(-0.3, 1.3, (3, *FIXED))
    disp = (positions - np.indices(FIXED)).astype(np.float32)
    write_warp(tmp_path / "warp.nii.gz", disp, fixed.affine, moving.affine)
    fill = fill_value(moving.array)
    by_itk = sitk.Resample(
        sitk.ReadImage(str(tmp_path / "b.nii.gz")),
        sitk.ReadImage(str(tmp_path / "a.nii.gz")),
        sitk.DisplacementFieldTransform(
            sitk.ReadImage(str(tmp_path / "warp.nii.gz"), sitk.sitkVectorFloat64)
        ),
        sitk.sitkLinear,
        fill,
    )
    expected = sitk.GetArrayFromImage(by_itk).transpose(2, 1, 0)
    assert (expected == fill).mean() > 0.3
    warped = warped_scan(moving.array, torch.from_numpy(disp)[None])
    np.testing.assert_allclose(warped, expected, rtol=0, atol=0.02)


@pytest.mark.parametrize(
    ("lowest", "fill"),
    [(0, 0), (35, 35), (-30, -30), (-499, -499), (-500, -1024), (-1000, -1024), (-3024, -1024)],
)
def test_outside_is_air_in_hounsfield_units_else_the_lowest_intensity(
    lowest: float, fill: float
) -> None:
    array = np.linspace(900, lowest, 210, dtype=np.float32).reshape(5, 6, 7)
    assert fill_value(array) == fill
    away = torch.full((1, 3, 4, 3, 2), 50.0)
    np.testing.assert_array_equal(warped_scan(array, away), np.full((4, 3, 2), fill))
