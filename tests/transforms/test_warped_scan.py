from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from scipy.ndimage import label

from l2reg.io.volumes import read_volume
from l2reg.io.voxel_types import VoxelType
from l2reg.registration.transform_reader import read_transform
from l2reg.registration.transform_scans import TransformScans
from l2reg.transforms.image_grid import read_grid
from l2reg.transforms.itk import write_warp
from l2reg.transforms.warped_scan import (
    LABEL_INTERPOLATIONS,
    fill_value,
    warp_label_map,
    warp_scan,
    write_warped_scan,
)
from l2reg.transforms.world_transform import displacement_map

FIXED, MOVING = (14, 17, 11), (12, 16, 19)


def oblique(spacing: tuple[float, float, float], *, flip: bool) -> np.ndarray:
    a, b = 0.3, -0.2
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ tilt @ np.diag(spacing) @ np.diag([-1.0 if flip else 1.0, 1, 1])
    affine[:3, 3] = (5.0, -7.0, 3.0)
    return affine


def by_itk(folder: Path, fill: float) -> np.ndarray:
    """Return moving.nii.gz, resampled on the grid of fixed.nii.gz with warp.nii.gz, as float64."""
    field = sitk.ReadImage(str(folder / "warp.nii.gz"), sitk.sitkVectorFloat64)
    resampled = sitk.Resample(
        sitk.ReadImage(str(folder / "moving.nii.gz"), sitk.sitkFloat64),
        sitk.ReadImage(str(folder / "fixed.nii.gz")),
        sitk.DisplacementFieldTransform(field),
        sitk.sitkLinear,
        fill,
    )
    array: np.ndarray = sitk.GetArrayFromImage(resampled)
    return array


def warp_files(folder: Path, random: np.random.Generator, *, flip: bool = False) -> float:
    """Warp moving.nii.gz by a field that often leads out of it; return the value outside."""
    affine = oblique((1.5, 1.0, 2.0), flip=flip)
    nib.save(nib.Nifti1Image(np.zeros(FIXED, np.int16), affine), folder / "fixed.nii.gz")
    fixed, moving = (read_volume(folder / f"{name}.nii.gz") for name in ("fixed", "moving"))
    positions = np.array(MOVING).reshape(3, 1, 1, 1) * random.uniform(-0.3, 1.3, (3, *FIXED))
    disp = (positions - np.indices(FIXED)).astype(np.float32)
    write_warp(folder / "warp.nii.gz", displacement_map(disp, fixed.place, moving.affine))
    field = torch.from_numpy(disp)[None]
    write_warped_scan(folder / "warped.nii.gz", moving.array, moving.voxel_type, field, fixed.place)
    return fill_value(moving.array, moving.voxel_type)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("lowest", [0.0, -3024.0])
def test_itk_resamples_alike_everywhere_with_the_fill_value(
    tmp_path: Path, random: np.random.Generator, lowest: float, flip: bool
) -> None:
    array = (lowest + 2000 * random.random(MOVING)).astype(np.float32)
    array[0, 0, 0] = lowest
    affine = oblique((1.2, 1.1, 1.7), flip=not flip)
    nib.save(nib.Nifti1Image(array, affine), tmp_path / "moving.nii.gz")
    fill = warp_files(tmp_path, random, flip=flip)
    expected = by_itk(tmp_path, fill)
    assert (expected == fill).mean() > 0.3
    warped = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "warped.nii.gz")))
    np.testing.assert_allclose(warped, expected, rtol=0, atol=0.02)


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", ">i2", "u2", "i4", "u4", "i8", "f4", "f8"])
@pytest.mark.parametrize("scaling", [(1.0, 0.0), (2.5, -1000.0), (0.125, 7.0)], ids=str)
def test_the_data_type_and_scaling_are_those_of_the_moving_scan(
    tmp_path: Path, random: np.random.Generator, dtype: str, scaling: tuple[float, float]
) -> None:
    kind = np.dtype(dtype)
    numbers = random.integers(-120 * (kind.kind != "u"), 120, MOVING).astype(dtype)
    affine = oblique((1.2, 1.1, 1.7), flip=False)
    header = nib.Nifti1Header(endianness=">" if dtype[0] == ">" else "<")
    image = nib.Nifti1Image(numbers, affine, header, dtype=kind)
    if scaling != (1.0, 0.0) and kind.kind != "f":
        image.header.set_slope_inter(*scaling)
    nib.save(image, tmp_path / "moving.nii.gz")
    fill = warp_files(tmp_path, random)
    expected = by_itk(tmp_path, fill)
    moving, warped = (nib.load(tmp_path / f"{name}.nii.gz") for name in ("moving", "warped"))
    assert warped.get_data_dtype() == kind.newbyteorder("=")
    assert (warped.dataobj.slope, warped.dataobj.inter) == (
        moving.dataobj.slope,
        moving.dataobj.inter,
    )
    step = 0 if kind.kind == "f" else moving.dataobj.slope
    difference = np.abs(warped.get_fdata().transpose(2, 1, 0) - expected)
    assert difference.max() <= step / 2 + 2e-3
    assert difference.mean() <= step / 3 + 1e-3
    moving, warped = (sitk.ReadImage(str(tmp_path / f"{n}.nii.gz")) for n in ("moving", "warped"))
    assert moving.GetPixelID() == warped.GetPixelID()  # else SimpleITK does not subtract


@pytest.mark.parametrize(
    ("lowest", "fill"),
    [(0, 0), (35, 35), (-30, -30), (-499, -499), (-500, -1024), (-1000, -1024), (-3024, -1024)],
)
def test_outside_is_air_in_hounsfield_units_else_the_lowest_intensity(
    lowest: float, fill: float
) -> None:
    array = np.linspace(900, lowest, 210, dtype=np.float32).reshape(5, 6, 7)
    assert fill_value(array, VoxelType(np.dtype(np.int16))) == fill
    assert fill_value(array, VoxelType(np.dtype(np.float32))) == fill


def test_air_is_the_nearest_number_that_the_type_has() -> None:
    array = np.linspace(900, -1000, 210, dtype=np.float32).reshape(5, 6, 7)
    assert fill_value(array, VoxelType(np.dtype(np.uint8), 10.0, -1000.0)) == -1000
    assert fill_value(array, VoxelType(np.dtype(np.int16), 10.0, 0.0)) == -1020


@pytest.mark.parametrize("flip", [False, True])
def test_itk_interpolates_labels_and_cubic_intensities_alike(
    tmp_path: Path, random: np.random.Generator, flip: bool
) -> None:
    array = random.integers(0, 9, MOVING).astype(np.int16)
    affine = oblique((1.2, 1.1, 1.7), flip=not flip)
    nib.save(nib.Nifti1Image(array, affine), tmp_path / "moving.nii.gz")
    warp_files(tmp_path, random, flip=flip)
    field = read_transform(tmp_path / "warp.nii.gz", TransformScans())
    disp = torch.from_numpy(field.voxel_field(read_grid(tmp_path / "fixed.nii.gz"), affine))[None]
    fixed, moving = (
        sitk.ReadImage(str(tmp_path / f"{name}.nii.gz"), sitk.sitkFloat64)
        for name in ("fixed", "moving")
    )
    itk_field = sitk.ReadImage(str(tmp_path / "warp.nii.gz"), sitk.sitkVectorFloat64)
    transform = sitk.DisplacementFieldTransform(itk_field)
    nearest, cubic = (
        sitk.GetArrayFromImage(sitk.Resample(moving, fixed, transform, kind, fill)).T
        for kind, fill in ((sitk.sitkNearestNeighbor, 0), (sitk.sitkBSpline, -7))
    )
    assert (nearest != warp_label_map(array, disp)).sum() <= 2  # a float32 beside a half
    itk_labels = sitk.Cast(moving, sitk.sitkUInt8)
    linear = sitk.Resample(itk_labels, fixed, transform, sitk.sitkLabelLinear, 0)
    ours = warp_label_map(array, disp, "label-linear")
    assert (ours != sitk.GetArrayFromImage(linear).T).sum() <= 2
    assert (ours != nearest).sum() > 50
    warped = warp_scan(array.astype(np.float32), disp, -7.0, "cubic")
    assert (cubic == -7).mean() > 0.3
    np.testing.assert_allclose(warped, cubic, atol=2e-3)


def turned_shell(spacing: float) -> tuple[np.ndarray, torch.Tensor, np.ndarray]:
    """Return a shell 1.1 voxels thick, a field that turns it onto another grid, and it there."""
    shape, fixed = (26, 24, 28), [round(22 / spacing) for _ in range(3)]
    turn, tilt = (oblique((1, 1, 1), flip=flip)[:3, :3] for flip in (False, True))
    voxels = np.indices(fixed).reshape(3, -1)
    points = turn @ tilt @ (spacing * (voxels - (np.array(fixed)[:, None] - 1) / 2)) + 0.2
    positions = points + (np.array(shape)[:, None] - 1) / 2
    disp = torch.from_numpy((positions - voxels).reshape(1, 3, *fixed)).float()

    def draw(points: np.ndarray) -> np.ndarray:
        radius: np.ndarray = np.linalg.norm(points / np.reshape((1, 0.8, 0.9), (3, 1)), axis=0)
        return np.where(abs(radius - 9) < 0.6, 3, np.where(radius < 9, 5, 0)).astype(np.int16)

    middle = (np.array(shape)[:, None] - 1) / 2
    moving = draw(np.indices(shape).reshape(3, -1) - middle).reshape(shape)
    return moving, disp, draw(points).reshape(fixed)


@pytest.mark.parametrize("spacing", [0.6, 1.0, 1.6])
def test_linear_labels_follow_a_thin_shell_closer_and_leave_it_whole(spacing: float) -> None:
    moving, disp, expected = turned_shell(spacing)
    dice = {}
    for interpolation in LABEL_INTERPOLATIONS:
        warped = warp_label_map(moving, disp, interpolation) == 3
        dice[interpolation] = 2 * (warped & (expected == 3)).sum() / (
            warped.sum() + (expected == 3).sum()
        )  # fmt: skip
        assert label(warped, np.ones((3, 3, 3)))[1] == 1
    assert dice["label-linear"] > dice["nearest"] + 0.04


def test_the_lowest_of_equally_large_labels_wins() -> None:
    moving = np.array([7, 2, 2, 9, 9, -4], np.int16).reshape(6, 1, 1)
    disp = torch.zeros(1, 3, 5, 1, 1)
    disp[:, 0] = 0.5
    warped = warp_label_map(moving, disp, "label-linear")
    assert warped.ravel().tolist() == [2, 2, 2, 9, -4]
