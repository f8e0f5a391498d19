from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch

from l2reg.geometry.warp import warp
from l2reg.io.headers import Placement
from l2reg.transforms.itk import write_warp
from l2reg.transforms.world_transform import DisplacementMap, displacement_map

SHAPE = (18, 20, 22)


Three = tuple[float, float, float]


def oblique(spacing: Three, flip: bool, origin: Three) -> np.ndarray:
    """A rotated, anisotropic, possibly left-handed header."""
    a, b = 0.3, -0.2
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ tilt @ np.diag(spacing) @ np.diag([-1.0 if flip else 1.0, 1.0, 1.0])
    affine[:3, 3] = origin
    return affine


@pytest.mark.parametrize("flip", [True, False])
def test_simpleitk_resamples_as_warp_does_on_any_header(
    tmp_path: Path, flip: bool, random: np.random.Generator
) -> None:
    fixed_affine = oblique((1.5, 1.0, 2.0), flip, (5.0, -7.0, 3.0))
    moving_affine = oblique((1.2, 1.1, 1.7), flip, (4.0, -6.0, 5.0))
    moving = random.random(SHAPE).astype(np.float32)
    disp = (1.5 * np.sin(np.indices(SHAPE) / 4.0)).astype(np.float32)
    nib.save(nib.Nifti1Image(moving, moving_affine), tmp_path / "moving.nii.gz")
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.float32), fixed_affine), tmp_path / "fixed.nii.gz")

    write_warp(
        tmp_path / "warp.nii.gz", displacement_map(disp, Placement(fixed_affine), moving_affine)
    )

    field = SimpleITK.ReadImage(str(tmp_path / "warp.nii.gz"), SimpleITK.sitkVectorFloat64)
    warped = SimpleITK.GetArrayFromImage(
        SimpleITK.Resample(
            SimpleITK.ReadImage(str(tmp_path / "moving.nii.gz")),
            SimpleITK.ReadImage(str(tmp_path / "fixed.nii.gz")),
            SimpleITK.DisplacementFieldTransform(field),
            SimpleITK.sitkLinear,
        )
    ).T
    volume, own_field = torch.from_numpy(moving)[None, None], torch.from_numpy(disp)[None]
    expected = warp(volume, own_field)[0, 0].numpy()
    positions = np.indices(SHAPE) + disp
    last = np.array(SHAPE).reshape(3, 1, 1, 1) - 1
    inside = ((positions > 0.01) & (positions < last - 0.01)).all(axis=0)
    assert inside.sum() > 4000
    np.testing.assert_allclose(warped[inside], expected[inside], atol=1e-4)


def test_simpleitk_moves_a_point_to_its_partner(tmp_path: Path) -> None:
    affine = oblique((1.5, 1.0, 2.0), True, (5.0, -7.0, 3.0))
    disp = np.zeros((3, *SHAPE), np.float32)
    disp[:] = np.array([1.0, -2.0, 0.5]).reshape(3, 1, 1, 1)
    write_warp(tmp_path / "warp.nii.gz", displacement_map(disp, Placement(affine), affine))
    field = SimpleITK.ReadImage(str(tmp_path / "warp.nii.gz"), SimpleITK.sitkVectorFloat64)
    to_lps = np.diag([-1.0, -1, 1, 1]) @ affine
    fixed_point = (to_lps @ [7, 8, 9, 1])[:3]
    moving_point = (to_lps @ [8, 6, 9.5, 1])[:3]
    moved = SimpleITK.DisplacementFieldTransform(field).TransformPoint(tuple(fixed_point))
    np.testing.assert_allclose(moved, moving_point, atol=1e-4)


def test_the_header_says_vectors_in_millimetres(tmp_path: Path) -> None:
    still = DisplacementMap(np.zeros((3, *SHAPE)), Placement(np.eye(4)))
    write_warp(tmp_path / "warp.nii.gz", still)
    header = nib.load(tmp_path / "warp.nii.gz").header
    assert header.get_data_shape() == (*SHAPE, 1, 3)
    assert header.get_intent()[0] == "vector"
    assert header.get_xyzt_units()[0] == "mm"
