from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from l2reg.problems import InputError
from l2reg.registration.transform_reader import read_transform
from l2reg.registration.transform_scans import TransformScans
from l2reg.registration.transform_writer import field_of, write_transform
from l2reg.transforms.image_grid import ImageGrid
from l2reg.transforms.world_transform import AffineMap, DisplacementMap, WorldTransform

ONE_HANDED = pytest.mark.parametrize("oblique_scans", [(True, False)], indirect=True, ids=str)
Inside = Callable[[ImageGrid], np.ndarray]
MATRICES = [("itk", "a.tfm"), ("itk", "a.txt"), ("itk", "a.mat"), ("itk", "a.h5"),
            ("greedy", "a.mat"), ("fsl", "a.mat")]  # fmt: skip
FIELDS = [("itk", "a.nii.gz"), ("itk", "a.h5"), ("greedy", "a.nii.gz"), ("fsl", "a.nii.gz"),
          ("spm", "y_a.nii"), ("torch", "a.npy"), ("challenge", "a.nii.gz")]  # fmt: skip


@pytest.mark.parametrize(("form", "name"), FIELDS)
def test_a_field_is_read_again_to_a_thousandth_of_a_millimetre(
    tmp_path: Path,
    oblique_scans: TransformScans,
    smooth_field: DisplacementMap,
    points: Inside,
    form: str,
    name: str,
) -> None:
    write_transform(tmp_path / name, WorldTransform((smooth_field,)), form, oblique_scans)
    again = read_transform(tmp_path / name, oblique_scans)  # its content tells the form
    positions = points(smooth_field.grid)
    np.testing.assert_allclose(again(positions), smooth_field(positions), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("form", "name"), MATRICES + FIELDS)
def test_an_affine_map_is_read_again_to_a_thousandth_of_a_millimetre(
    tmp_path: Path,
    oblique_scans: TransformScans,
    affine_map: AffineMap,
    points: Inside,
    form: str,
    name: str,
) -> None:
    write_transform(tmp_path / name, WorldTransform((affine_map,)), form, oblique_scans)
    again = read_transform(f"{form}:{tmp_path / name}", oblique_scans)
    fixed, _ = oblique_scans.both("")
    assert (again.matrix is None) == ((form, name) in FIELDS and name != "a.h5")
    positions = points(fixed)
    np.testing.assert_allclose(again(positions), affine_map(positions), rtol=0, atol=1e-4)


def test_the_samples_of_2021_are_those_of_half_the_grid(
    tmp_path: Path, oblique_scans: TransformScans
) -> None:
    """A field that is linear in the voxels survives half the samples, but for float16."""
    fixed, _ = oblique_scans.both("")
    disp = (np.indices(fixed.shape) - 8) * 0.0625
    field = DisplacementMap(
        np.einsum("cd,dijk->cijk", fixed.place.affine[:3, :3], disp), fixed.place
    )
    scans = TransformScans(fixed, fixed)
    path = tmp_path / "disp_0001_0002.npz"
    write_transform(path, WorldTransform((field,)), "challenge-2021", scans)
    again = field_of(read_transform(path, scans), scans, "")
    np.testing.assert_allclose(again.disp_mm, field.disp_mm, atol=0.05)


@ONE_HANDED
def test_a_composite_keeps_its_steps_and_an_inverse_becomes_one_field(
    tmp_path: Path,
    oblique_scans: TransformScans,
    smooth_field: DisplacementMap,
    affine_map: AffineMap,
) -> None:
    transform = WorldTransform((affine_map, smooth_field))
    for each, kinds in (
        (transform, [AffineMap, DisplacementMap]),
        (transform.inverse, [DisplacementMap]),
    ):
        write_transform(tmp_path / "a.h5", each, "itk", oblique_scans)
        again = read_transform(tmp_path / "a.h5", oblique_scans)
        assert [type(step) for step in again.steps] == kinds
        fixed, _ = oblique_scans.both("")
        np.testing.assert_allclose(again(fixed.points()), each(fixed.points()), atol=1e-3)


@ONE_HANDED
def test_a_field_without_a_scan_stays_on_its_own_grid(
    tmp_path: Path, smooth_field: DisplacementMap, affine_map: AffineMap
) -> None:
    write_transform(tmp_path / "a.nii.gz", WorldTransform((smooth_field,)), "itk", TransformScans())
    (again,) = read_transform(tmp_path / "a.nii.gz", TransformScans()).steps
    assert isinstance(again, DisplacementMap)
    assert again.grid.shape == smooth_field.grid.shape
    with pytest.raises(InputError, match="add --reference FIXED"):
        write_transform(
            tmp_path / "b.nii.gz", WorldTransform((affine_map,)), "itk", TransformScans()
        )


@ONE_HANDED
@pytest.mark.parametrize(
    ("form", "name", "message"),
    [
        ("itk", "a.npy", "expected  .tfm or .txt|expected  .nii.gz"),
        ("greedy", "a.mat", "a field in the form 'greedy'"),
        ("freesurfer", "a.lta", "a form that is written: itk, greedy"),
        ("elastix", "a.nii.gz", "a form that is written: itk, greedy"),
        ("challenge-2021", "a.npz", "disp_FFFF_MMMM.npz"),
        ("fsl", "a.nii.gz", "add --moving MOVING"),
    ],
)
def test_nothing_is_written_in_a_form_that_cannot_hold_it(
    tmp_path: Path, smooth_field: DisplacementMap, form: str, name: str, message: str
) -> None:
    scans = TransformScans(smooth_field.grid, None if form == "fsl" else smooth_field.grid)
    with pytest.raises(InputError, match=message):
        write_transform(tmp_path / name, WorldTransform((smooth_field,)), form, scans)
    assert list(tmp_path.iterdir()) == []
