from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from l2reg.cli.main import main
from l2reg.registration.transform_conversion import convert_file, covering_grid, invert_file
from l2reg.registration.transform_reader import read_transform
from l2reg.registration.transform_scans import TransformScans
from l2reg.registration.transform_writer import write_transform
from l2reg.transforms.world_transform import AffineMap, DisplacementMap, WorldTransform

ONE_HANDED = pytest.mark.parametrize("oblique_scans", [(True, False)], indirect=True, ids=str)
LPS = np.array([[-1.0], [-1.0], [1.0]])


@pytest.fixture
def files(
    oblique_scans: TransformScans,
    smooth_field: DisplacementMap,
    affine_map: AffineMap,
    own_folder: None,
) -> TransformScans:
    """A field, an affine map and both scans, in the working folder."""
    for name, grid in zip(("fixed", "moving"), oblique_scans.both(""), strict=True):
        nib.save(nib.Nifti1Image(np.zeros(grid.shape, np.int16), grid.place.affine),
                 f"{name}.nii.gz")  # fmt: skip
    write_transform(Path("field.nii.gz"), WorldTransform((smooth_field,)), "itk", oblique_scans)
    write_transform(Path("affine.tfm"), WorldTransform((affine_map,)), "itk", oblique_scans)
    return oblique_scans


def test_forms_are_converted_on_the_command_line_to_a_thousandth_of_a_millimetre(
    files: TransformScans, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through all forms and back to ITK's, which SimpleITK reads."""
    scans = ["--reference", "fixed.nii.gz", "--moving", "moving.nii.gz"]
    chain = [("fsl", "f.nii.gz"), ("spm", "y_a.nii"), ("torch", "t.npy"),
             ("challenge", "c.nii.gz"), ("greedy", "g.nii.gz"), ("ants", "last.h5")]  # fmt: skip
    name = "field.nii.gz"
    for form, out in chain:
        main(["convert", name, "--to", form, "--out", out, *scans])
        name = out
    assert capsys.readouterr().out.count("difference from the original: mean ") == len(chain)
    last = sitk.ReadTransform("last.h5")
    field = sitk.DisplacementFieldTransform(sitk.ReadImage("field.nii.gz", sitk.sitkVectorFloat64))
    assert files.fixed is not None
    for point in (LPS * files.fixed.points()).T[::97]:
        moved = field.TransformPoint(point.tolist())
        np.testing.assert_allclose(last.TransformPoint(point.tolist()), moved, atol=1e-3)


@ONE_HANDED
def test_a_bids_name_is_told_in_words(
    files: TransformScans, capsys: pytest.CaptureFixture[str]
) -> None:
    to_mni, to_t1w = "from-T1w_to-MNI_mode-image_xfm.h5", "from-MNI_to-T1w_mode-image_xfm.h5"
    main(["convert", "affine.tfm", "--to", "itk", "--out", to_mni])
    main(["invert", to_mni, "--out", to_t1w])
    said = capsys.readouterr().out
    for name, words in ((to_mni, "T1w onto the grid of MNI"), (to_t1w, "MNI onto the grid of T1w")):
        assert f"{name}: brings images of {words}, and points" in said
    point = (30.0, -20.0, 10.0)
    affine, written = sitk.ReadTransform("affine.tfm"), sitk.ReadTransform(to_mni)
    np.testing.assert_allclose(written.TransformPoint(point), affine.TransformPoint(point))


@ONE_HANDED
def test_the_difference_is_that_of_what_is_read_again(files: TransformScans) -> None:
    fixed, _ = files.both("")
    exact = convert_file("field.nii.gz", Path("a.h5"), "itk", files)
    assert exact.maximum < 1e-6
    assert exact.compared == 1
    half = convert_file("field.nii.gz", Path("disp_1_2.npz"), "challenge-2021", files)
    points = fixed.points()
    first, second = (
        read_transform(name, files)(points) for name in ("field.nii.gz", "disp_1_2.npz")
    )
    lengths = np.linalg.norm(first - second, axis=0)
    assert half.maximum == pytest.approx(lengths.max(), rel=1e-3)
    assert half.mean == pytest.approx(lengths.mean(), rel=1e-3)
    assert half.maximum > 0.01
    affine = convert_file("affine.tfm", Path("a.mat"), "greedy", TransformScans())
    assert affine.maximum < 1e-6


@ONE_HANDED
@pytest.mark.parametrize("known", [True, False])
def test_an_inverse_brings_points_back(
    files: TransformScans, known: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """ITK takes points there and back; the field bends little between voxels."""
    scans = ["--moving", "moving.nii.gz"] if known else []
    main(["invert", "field.nii.gz", "--out", "inverse.nii.gz", *scans])
    assert "residual of going there and back: mean 0.0" in capsys.readouterr().out
    forward, backward = (
        sitk.DisplacementFieldTransform(sitk.ReadImage(name, sitk.sitkVectorFloat64))
        for name in ("field.nii.gz", "inverse.nii.gz")
    )
    fixed, moving = files.both("")
    shape = nib.load("inverse.nii.gz").shape[:3]
    assert (shape == moving.shape) is known
    errors = []
    for voxel in np.ndindex(*fixed.shape):
        if all(2 <= v < n - 2 for v, n in zip(voxel, fixed.shape, strict=True)):
            point = LPS[:, 0] * nib.affines.apply_affine(fixed.place.affine, voxel)
            moved = forward.TransformPoint(point.tolist())
            if backward.TransformPoint(moved) != moved:  # inside the grid of the inverse
                errors.append(np.subtract(backward.TransformPoint(moved), point))
    lengths = np.linalg.norm(errors, axis=1)
    assert len(lengths) > 500
    assert lengths.mean() < 0.1
    residual = invert_file("field.nii.gz", Path("b.nii.gz"), "itk",
                           TransformScans(fixed, moving if known else None))  # fmt: skip
    assert residual.maximum < 1.5
    assert residual.compared > 0.4


@ONE_HANDED
def test_one_of_several_volumes_places_a_transform_as_the_volume_itself(
    files: TransformScans,
) -> None:
    for name in ("fixed", "moving"):
        scan = nib.load(f"{name}.nii.gz")
        volumes = np.zeros((*scan.shape, 3), np.int16)
        nib.save(nib.Nifti1Image(volumes, scan.affine), f"{name}_series.nii.gz")
    for command in ("convert", "invert"):
        words = [command, "field.nii.gz", "--to", "challenge"]
        for end, more in (("", []), ("_series", ["--volume", "2"])):
            main([*words, "--reference", f"fixed{end}.nii.gz", "--moving", f"moving{end}.nii.gz",
                  "--out", f"{command}{end}.nii.gz", *more])  # fmt: skip
        single, series = (nib.load(f"{command}{end}.nii.gz") for end in ("", "_series"))
        np.testing.assert_array_equal(series.get_fdata(), single.get_fdata())
        for more, remedy in (([], "--volume 0"), (["--volume", "3"], "--volume 2 is the last one")):
            with pytest.raises(SystemExit, match=remedy):
                main([*words, "--reference", "fixed_series.nii.gz", "--moving", "moving.nii.gz",
                      "--out", "other.nii.gz", *more])  # fmt: skip


def test_the_inverse_of_an_affine_map_is_a_matrix(files: TransformScans) -> None:
    residual = invert_file("affine.tfm", Path("inverse.tfm"), "itk", TransformScans())
    assert residual.maximum < 1e-9
    forward, backward = (sitk.ReadTransform(name) for name in ("affine.tfm", "inverse.tfm"))
    point = (30.0, -20.0, 10.0)
    np.testing.assert_allclose(backward.TransformPoint(forward.TransformPoint(point)), point)


def test_a_covering_grid_holds_all_positions_and_keeps_the_spacing(
    oblique_scans: TransformScans, affine_map: AffineMap
) -> None:
    fixed, _ = oblique_scans.both("")
    far = AffineMap(affine_map.matrix.copy())
    far.matrix[:3, 3] += (200, -40, 7)
    grid = covering_grid(fixed, WorldTransform((far,)))
    np.testing.assert_array_equal(grid.place.affine[:3, :3], fixed.place.affine[:3, :3])
    moved = far(fixed.points())
    voxels = nib.affines.apply_affine(np.linalg.inv(grid.place.affine), moved.T)
    assert voxels.min() >= -1e-6
    assert (voxels.max(axis=0) <= np.array(grid.shape) - 1 + 1e-6).all()
    assert (voxels.max(axis=0) > np.array(grid.shape) - 2.1).all()


@ONE_HANDED
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("convert field.nii.gz --to fsl --out a.nii.gz", "add --moving MOVING"),
        ("convert affine.tfm --to itk --out a.nii.gz", "add --reference FIXED"),
        ("convert field.nii.gz --to itk --out a.tfm", "cannot be written"),
        ("convert field.nii.gz --to itk --out field.nii.gz", "is an input"),
        ("invert field.nii.gz --out field.nii.gz", "is an input"),
        ("invert field.nii.gz --out a.mat", "cannot be written"),
        ("invert nothing.h5 --out a.h5", "is no file"),
        (
            "convert from-A_to-B_mode-image_xfm.nii.gz --to itk "
            "--out from-B_to-A_mode-image_xfm.nii.gz",
            "l2reg invert writes that one",
        ),
        (
            "invert from-A_to-B_mode-image_xfm.nii.gz --out from-A_to-C_mode-image_xfm.nii.gz",
            "from-B_to-A_mode-image_xfm",
        ),
    ],
)
def test_bad_input_writes_nothing(files: TransformScans, words: str, message: str) -> None:
    content = {path: path.read_bytes() for path in Path().iterdir()}
    with pytest.raises(SystemExit) as stop:
        main(words.split())
    assert message in str(stop.value.code)
    assert {path: path.read_bytes() for path in Path().iterdir()} == content
