from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from scipy.ndimage import gaussian_filter

from l2reg.cli.main import main
from l2reg.registration.transform_scans import TransformScans
from l2reg.registration.transform_writer import write_transform
from l2reg.transforms.image_grid import ImageGrid
from l2reg.transforms.world_transform import AffineMap, DisplacementMap, WorldTransform

ONE_HANDED = pytest.mark.parametrize("oblique_scans", [(True, False)], indirect=True, ids=str)
LPS = np.array([[-1.0], [-1.0], [1.0]])


@pytest.fixture
def pair(
    oblique_scans: TransformScans,
    smooth_field: DisplacementMap,
    affine_map: AffineMap,
    random: np.random.Generator,
    own_folder: None,
) -> TransformScans:
    """Two scans, label maps, a field and an affine map, written to the working folder."""
    for name, grid in zip(("fixed", "moving"), oblique_scans.both(""), strict=True):
        scan = gaussian_filter(random.normal(size=grid.shape), 1.0)
        save(f"{name}.nii.gz", (2000 + 1000 * scan).astype(np.int16), grid)
        save(f"{name}_labels.nii.gz", (scan > 0.1).astype(np.uint8) * 200, grid)
    write_transform(Path("field.nii.gz"), WorldTransform((smooth_field,)), "itk", oblique_scans)
    write_transform(Path("affine.tfm"), WorldTransform((affine_map,)), "itk", oblique_scans)
    write_transform(Path("flirt.mat"), WorldTransform((affine_map,)), "fsl", oblique_scans)
    return oblique_scans


def save(name: str, array: np.ndarray, grid: ImageGrid) -> None:
    nib.save(nib.Nifti1Image(array, grid.place.affine), name)


def warp(*words: str) -> None:
    main(["warp", *words])


def composite(*names: str) -> sitk.CompositeTransform:
    """Return ITK's composition of files that a fixed position passes through in this order."""
    result = sitk.CompositeTransform(3)
    for name in reversed(names):
        if name.endswith(".nii.gz"):
            field = sitk.ReadImage(name, sitk.sitkVectorFloat64)
            result.AddTransform(sitk.DisplacementFieldTransform(field))
        else:
            result.AddTransform(sitk.ReadTransform(name))
    return result


def by_itk(source: str, transform: sitk.Transform, interpolator: int, fill: float) -> np.ndarray:
    moving = sitk.ReadImage(source, sitk.sitkFloat64)
    fixed = sitk.ReadImage("fixed.nii.gz")
    array: np.ndarray = sitk.GetArrayFromImage(
        sitk.Resample(moving, fixed, transform, interpolator, fill)
    ).T
    return array


def array(name: str) -> np.ndarray:
    result: np.ndarray = nib.load(name).get_fdata()
    return result


@pytest.mark.parametrize("names", [["field.nii.gz"], ["field.nii.gz", "affine.tfm"]])
def test_scans_and_labels_are_resampled_as_by_itk(
    pair: TransformScans, names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    transform = composite(*names)
    fill = float(array("moving.nii.gz").min())
    for kind, interpolator in (("linear", sitk.sitkLinear), ("cubic", sitk.sitkBSpline)):
        warp(*names, "--image", "moving.nii.gz", "--reference", "fixed.nii.gz",
             "--interpolation", kind, "--out", "warped.nii.gz")  # fmt: skip
        expected = by_itk("moving.nii.gz", transform, interpolator, fill)
        assert nib.load("warped.nii.gz").get_data_dtype() == np.int16
        assert np.abs(array("warped.nii.gz") - expected).max() <= 0.55
    assert "% of the grid lies inside moving.nii.gz" in capsys.readouterr().out
    warp(*names, "--labels", "moving_labels.nii.gz", "--reference", "fixed.nii.gz",
         "--out", "labels.nii.gz")  # fmt: skip
    expected = by_itk("moving_labels.nii.gz", transform, sitk.sitkNearestNeighbor, 0)
    assert set(np.unique(expected)) == {0, 200}
    assert (array("labels.nii.gz") != expected).sum() <= 2
    warp(*names, "--labels", "moving_labels.nii.gz", "--reference", "fixed.nii.gz",
         "--interpolation", "label-linear", "--out", "labels.nii.gz")  # fmt: skip
    linear = by_itk("moving_labels.nii.gz", transform, sitk.sitkLinear, 0)
    beside = array("labels.nii.gz") != np.where(linear > 100, 200, 0)
    assert (np.abs(linear[beside] - 100) < 1).all()
    assert nib.load("labels.nii.gz").get_data_dtype() == np.uint8


def test_points_go_where_itk_takes_them_and_the_inverse_brings_them_back(
    pair: TransformScans,
) -> None:
    fixed, moving = pair.both("")
    voxels = np.array([[3, 4, 5], [8.5, 9.25, 7], [6, 12, 3]])
    world = nib.affines.apply_affine(fixed.place.affine, voxels).T
    lps = (LPS * world).T
    np.savetxt("voxels.csv", voxels, delimiter=",", header="i,j,k", comments="")
    np.savetxt("lps.csv", lps, delimiter=",")
    np.savetxt("ras.csv", world.T, delimiter=",")
    names = ["field.nii.gz", "affine.tfm"]
    expected = np.array([composite(*names).TransformPoint(p.tolist()) for p in lps])
    warp(*names, "--points", "lps.csv", "--coordinates", "lps", "--out", "moved_lps.csv")
    np.testing.assert_allclose(np.loadtxt("moved_lps.csv", delimiter=","), expected, atol=1e-3)
    warp(*names, "--points", "ras.csv", "--coordinates", "ras", "--out", "moved_ras.csv")
    moved = (LPS * expected.T).T
    np.testing.assert_allclose(np.loadtxt("moved_ras.csv", delimiter=","), moved, atol=1e-3)
    warp(*names, "--points", "voxels.csv", "--coordinates", "voxels", "--reference",
         "fixed.nii.gz", "--moving", "moving.nii.gz", "--out", "moved.csv")  # fmt: skip
    in_moving = nib.affines.apply_affine(np.linalg.inv(moving.place.affine), moved)
    assert Path("moved.csv").read_text().startswith("i,j,k\n")
    found = np.loadtxt("moved.csv", delimiter=",", skiprows=1)
    np.testing.assert_allclose(found, in_moving, atol=1e-3)
    warp(*names, "--inverse", "--points", "moved.csv", "--coordinates", "voxels", "--reference",
         "moving.nii.gz", "--moving", "fixed.nii.gz", "--out", "back.csv")  # fmt: skip
    back = np.loadtxt("back.csv", delimiter=",", skiprows=1)
    np.testing.assert_allclose(back, voxels, atol=1e-3)


def test_a_form_in_voxels_takes_its_scans_from_the_command(pair: TransformScans) -> None:
    for name in ("flirt.mat", "affine.tfm"):
        form = "fsl:" if name == "flirt.mat" else ""
        warp(f"{form}{name}", "--image", "moving.nii.gz", "--reference", "fixed.nii.gz",
             "--out", f"{name}.nii.gz")  # fmt: skip
        warp(f"{form}{name}", "--inverse", "--image", "fixed.nii.gz", "--reference",
             "moving.nii.gz", "--out", f"{name}_inverse.nii.gz")  # fmt: skip
    for end in ("", "_inverse"):
        ours, other = (array(f"{name}{end}.nii.gz") for name in ("flirt.mat", "affine.tfm"))
        assert (np.abs(ours - other) > 1).sum() <= 2  # beside a face of the scan
        assert ours.std() > 50


@ONE_HANDED
def test_scans_that_a_field_leads_between_the_other_way_and_labels_as_scans_are_told(
    pair: TransformScans, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*words: str) -> str:
        warp("field.nii.gz", *words, "--out", "out.nii.gz")
        return capsys.readouterr().out

    to_moving = ["--image", "fixed.nii.gz", "--reference", "moving.nii.gz"]
    to_fixed = ["--image", "moving.nii.gz", "--reference", "fixed.nii.gz"]
    assert "!!!" not in said(*to_fixed) + said(*to_moving, "--inverse")
    assert "add --inverse" in said(*to_moving)
    assert "leave out --inverse" in said(*to_fixed, "--inverse")
    assert "label map" in said("--image", "moving_labels.nii.gz", *to_fixed[2:])
    assert "!!!" not in said("--labels", "moving_labels.nii.gz", *to_fixed[2:])
    assert "moving.nii.gz looks like a scan" in said("--labels", "moving.nii.gz", *to_fixed[2:])


@ONE_HANDED
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("nothing.h5 --image moving.nii.gz --reference fixed.nii.gz", "nothing.h5: is no file"),
        ("field.nii.gz --image nothing.nii.gz --reference fixed.nii.gz", "is missing"),
        ("field.nii.gz --image moving.nii.gz", "add --reference FIXED"),
        ("field.nii.gz --points fixed.csv", "--coordinates: is missing"),
        ("far.tfm --image moving.nii.gz --reference fixed.nii.gz", "nothing to show"),
        ("far.tfm --labels moving_labels.nii.gz --reference fixed.nii.gz", "nothing to show"),
        (
            "field.nii.gz fsl:flirt.mat --image moving.nii.gz --reference fixed.nii.gz",
            "several transforms",
        ),
        ("field.nii.gz --points fixed.csv --coordinates voxels", "add --reference"),
        (
            "field.nii.gz --labels moving_labels.nii.gz --reference fixed.nii.gz "
            "--interpolation cubic",
            "nearest or label-linear",
        ),
        ("field.nii.gz --points fixed.csv --coordinates ras --interpolation nearest", "points"),
        (
            "field.nii.gz --image moving.nii.gz --reference fixed.nii.gz "
            "--interpolation label-linear",
            "label map: --labels FILE",
        ),
    ],
)
def test_bad_input_writes_nothing(pair: TransformScans, words: str, message: str) -> None:
    sitk.WriteTransform(sitk.TranslationTransform(3, (900.0, 0, 0)), "far.tfm")
    Path("fixed.csv").write_text("1,2,3\n")
    before = sorted(Path().iterdir())
    with pytest.raises(SystemExit) as stop:
        warp(*words.split(), "--out", "out.csv" if "points" in words else "out.nii.gz")
    assert message in str(stop.value.code)
    assert sorted(Path().iterdir()) == before


@ONE_HANDED
@pytest.mark.parametrize("out", ["moving.nii.gz", "field.nii.gz", "out.nrrd"])
def test_an_output_never_replaces_an_input_nor_has_another_suffix(
    pair: TransformScans, out: str
) -> None:
    content = {path: path.read_bytes() for path in Path().iterdir()}
    with pytest.raises(SystemExit) as stop:
        warp("field.nii.gz", "--image", "moving.nii.gz", "--reference", "fixed.nii.gz",
             "--out", out)  # fmt: skip
    assert "remedy" in str(stop.value.code)
    assert {path: path.read_bytes() for path in Path().iterdir()} == content


def test_scans_of_other_formats_and_one_of_several_volumes_are_warped_alike(
    pair: TransformScans,
) -> None:
    for name in ("fixed", "moving", "moving_labels"):
        sitk.WriteImage(sitk.ReadImage(f"{name}.nii.gz"), f"{name}.nrrd")
    scan = nib.load("moving.nii.gz")
    volumes = np.stack([np.zeros_like(scan.dataobj), scan.dataobj], axis=-1)
    nib.save(nib.Nifti1Image(volumes, scan.affine), "volumes.nii.gz")
    for end in (".nii.gz", ".nrrd"):
        warp("field.nii.gz", "--image", f"moving{end}", "--reference", f"fixed{end}",
             "--out", f"warped_by{end[:3]}.nii.gz")  # fmt: skip
        warp("field.nii.gz", "--labels", f"moving_labels{end}", "--reference", f"fixed{end}",
             "--out", f"labels_by{end[:3]}.nii.gz")  # fmt: skip
    warp("field.nii.gz", "--image", "volumes.nii.gz", "--volume", "1", "--reference",
         "fixed.nii.gz", "--out", "second.nii.gz")  # fmt: skip
    np.testing.assert_allclose(array("warped_by.nr.nii.gz"), array("warped_by.ni.nii.gz"), atol=1)
    np.testing.assert_array_equal(array("labels_by.nr.nii.gz"), array("labels_by.ni.nii.gz"))
    np.testing.assert_array_equal(array("second.nii.gz"), array("warped_by.ni.nii.gz"))
    assert nib.load("warped_by.nr.nii.gz").get_data_dtype() == np.int16
    with pytest.raises(SystemExit, match="--volume 0"):
        warp("field.nii.gz", "--image", "volumes.nii.gz", "--reference", "fixed.nii.gz",
             "--out", "third.nii.gz")  # fmt: skip
    assert not Path("third.nii.gz").exists()


def test_points_that_a_folded_field_has_no_inverse_for_are_told(
    pair: TransformScans, random: np.random.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    """ITK takes the results back; the field is 0 at its border, beyond which ITK moves nothing."""
    fixed, _ = pair.both("")
    rough = np.zeros((3, *fixed.shape))
    rough[:, 3:-3, 3:-3, 3:-3] = 6 * random.normal(size=rough[:, 3:-3, 3:-3, 3:-3].shape)
    field = DisplacementMap(rough, fixed.place)
    write_transform(Path("rough.nii.gz"), WorldTransform((field,)), "itk", pair)
    points = fixed.points()[:, random.choice(np.prod(fixed.shape), 300, replace=False)]
    np.savetxt("points.csv", points.T, delimiter=",", header="x,y,z", comments="")
    words = ["--points", "points.csv", "--coordinates", "ras"]
    warp("rough.nii.gz", "--inverse", *words, "--out", "back.csv")
    said = capsys.readouterr().out
    itk = composite("rough.nii.gz")
    back = np.loadtxt("back.csv", delimiter=",", skiprows=1) * LPS.T
    there = np.array([itk.TransformPoint(point) for point in back.tolist()]) * LPS.T
    wrong = np.linalg.norm(there - points.T, axis=1) > 0.1
    assert 0 < wrong.mean() < 1
    assert f"!!! the inverse is not exact at {100 * wrong.mean():.2g} % of the positions" in said
    warp("rough.nii.gz", *words, "--out", "there.csv")
    warp("field.nii.gz", "--inverse", *words, "--out", "smooth.csv")
    assert "!!!" not in capsys.readouterr().out
