from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from l2reg.io.scan_source import ScanSource
from l2reg.io.volumes import read_volume
from l2reg.problems import InputError
from l2reg.registration.result import Registration, output_files, write_scans, write_stages
from l2reg.registration.transform_scans import TransformScans
from l2reg.registration.verdict import Verdict
from l2reg.registration.warp_files import read_transforms
from l2reg.reporting.registered_pair import RegisteredPair
from l2reg.transforms.world_transform import AffineMap, DisplacementMap, WorldTransform

pytestmark = pytest.mark.parametrize("oblique_scans", [(True, False)], indirect=True, ids=str)
PICTURE = RegisteredPair(
    *np.random.default_rng(0).random((3, 9, 8, 7)).astype("f4"),
    np.zeros((3, 9, 8, 7), "f4"),
    *np.zeros((2, 9, 8, 7), np.int16),
    (2.0, 1.0, 3.0),
)
VERDICT = Verdict(1.0, 0.5, 0.9, 0.5, 0.9, 1.0, 2.0, 0.0, 0.0)


@pytest.fixture
def result(
    oblique_scans: TransformScans,
    smooth_field: DisplacementMap,
    random: np.random.Generator,
    own_folder: None,
) -> Registration:
    fixed, moving = oblique_scans.both("")
    nib.save(nib.Nifti1Image(np.zeros(fixed.shape, np.int16), fixed.place.affine), "fixed.nii.gz")
    scan = random.integers(0, 5, moving.shape).astype(np.int16)
    nib.save(nib.Nifti1Image(scan, moving.place.affine), "moving.nii.gz")
    transform = WorldTransform((smooth_field,))
    files = output_files(Path("out"), ["inverse", "jacobian"])
    write_scans(files, smooth_field, read_volume(Path("moving.nii.gz")), moving)
    return Registration(
        ScanSource(Path("moving.nii.gz")),
        oblique_scans,
        transform,
        VERDICT,
        {},
        {},
        PICTURE,
        fixed,
        files,
    )


def test_scans_labels_and_points_follow_the_transform(result: Registration) -> None:
    assert result.files is not None
    written = nib.load(result.files.warped)
    warped = result.warp()
    np.testing.assert_array_equal(np.asarray(warped.dataobj), np.asarray(written.dataobj))
    np.testing.assert_allclose(warped.affine, written.affine)
    labels = np.asarray(result.warp("moving.nii.gz", labels=True).dataobj)
    assert set(np.unique(labels)) <= set(range(5))
    linear = result.warp("moving.nii.gz", labels=True, interpolation="label-linear")
    differ = np.asarray(linear.dataobj) != labels
    assert 0.1 < differ.mean() < 0.9
    with pytest.raises(InputError, match="label-linear"):
        result.warp(interpolation="label-linear")
    assert not np.array_equal(labels, np.asarray(result.warp(interpolation="cubic").dataobj))
    points = result.transform.steps[0].grid.points().T[::701]  # type: ignore[union-attr]
    moved = result.points(points)
    assert moved.shape == points.shape
    inside = result.transform.contains(points.T)
    np.testing.assert_allclose(result.inverse(moved.T).T[inside], points[inside], atol=0.5)

    np.testing.assert_array_equal(result.points(points.tolist()), moved)
    for other in (points[0], points.T, points[:, :2]):
        with pytest.raises(InputError, match=r"shape \(n, 3\)"):
            result.points(other)


def test_the_stages_are_written_for_tools_that_compose_them(
    oblique_scans: TransformScans, smooth_field: DisplacementMap, affine_map: AffineMap
) -> None:
    files = output_files(Path("out"), ["initial", "deformable"])
    write_stages(files, affine_map, smooth_field)
    transform = read_transforms(
        ["out/deformable.nii.gz", "greedy:out/initial.mat"], oblique_scans, inverse=False
    )
    fixed, _ = oblique_scans.both("")
    points = fixed.points()
    expected = affine_map(points + smooth_field.disp_mm.reshape(3, -1))
    np.testing.assert_allclose(transform(points), expected, atol=1e-4)


def test_what_is_warped_may_be_in_memory(result: Registration) -> None:
    image = nib.load("moving.nii.gz")
    array = np.asarray(image.dataobj)
    expected = np.asarray(result.warp("moving.nii.gz", labels=True).dataobj)
    for given in (image, (array, image.affine), sitk.ReadImage("moving.nii.gz")):
        warped = result.warp(given, labels=True)
        np.testing.assert_array_equal(np.asarray(warped.dataobj), expected)
        assert warped.get_data_dtype() == np.int16


def test_a_notebook_shows_the_slices(result: Registration) -> None:
    assert result._repr_png_()[:4] == b"\x89PNG"
    assert "moving.nii.gz" in result.show().get_suptitle()


def test_the_transform_is_saved_in_any_form(result: Registration) -> None:
    for path, form in (("a.h5", "itk"), ("y_a.nii", "spm"), ("a.npy", "torch")):
        result.save(path, form)
        assert Path(path).stat().st_size > 1000


def test_the_change_of_volume_is_that_of_parallelepipeds(result: Registration) -> None:
    """ITK moves the six neighbours of a voxel; its own filter ignores the direction of the axes."""
    assert result.files is not None
    field = sitk.ReadImage(str(result.files.transform), sitk.sitkVectorFloat64)
    transform = sitk.DisplacementFieldTransform(field)
    image = nib.load(result.files.jacobian)
    assert image.shape == nib.load("fixed.nii.gz").shape
    lps = np.diag([-1, -1, 1, 1]) @ image.affine
    for voxel in [(1, 1, 1), (5, 9, 3), (12, 16, 14)]:
        edges = []
        for step in np.eye(3):
            ends = [nib.affines.apply_affine(lps, voxel + sign * step) for sign in (1, -1)]
            edges.append(np.subtract(*(transform.TransformPoint(end.tolist()) for end in ends)))
        expected = np.linalg.det(np.array(edges)) / 8 / np.linalg.det(lps[:3, :3])
        np.testing.assert_allclose(image.dataobj[voxel], expected, atol=1e-3)
    assert image.dataobj[0, 1, 1] == image.dataobj[1, 1, 1]


def test_the_inverse_lies_on_the_moving_grid(result: Registration) -> None:
    assert result.files is not None
    image = nib.load(result.files.inverse)
    assert image.shape[:3] == nib.load("moving.nii.gz").shape
    assert [path.name for path in result.files.paths] == [
        "warped.nii.gz", "transform.nii.gz", "picture.png", "registration.json",
        "inverse.nii.gz", "jacobian.nii.gz",
    ]  # fmt: skip
