import json
import shutil
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

import l2reg
from l2reg.cli.main import main
from l2reg.geometry.resize import resize_image
from l2reg.problems import InputError
from l2reg.registration.input_checks import overwrite_problems
from l2reg.registration.register import register


@pytest.fixture
def scans(phantoms: dict[str, Path]) -> tuple[Path, Path]:
    folder = phantoms["lung"] / "task_02/training/scans"
    return folder / "case_001_exp.nii.gz", folder / "case_001_insp.nii.gz"


def intensities(path: Path) -> np.ndarray:
    array: np.ndarray = nib.load(path).get_fdata()
    return array


def inner(difference: np.ndarray) -> float:
    return float(np.abs(difference[10:-10, 10:-10, 10:-10]).mean())


@pytest.mark.parametrize("preset", ["lung", pytest.param("abdomen", marks=pytest.mark.slow)])
def test_two_files_are_brought_together_without_any_data_set(
    scans: tuple[Path, Path], tmp_path: Path, preset: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fixed, moving = scans
    out = tmp_path / "out"
    main(["register", str(fixed), str(moving), "--out", str(out), "--like", preset,
          "--device", "cpu", "--report"])  # fmt: skip
    said = capsys.readouterr().out.splitlines()
    names = ("warped.nii.gz", "transform.nii.gz", "picture.png", "registration.json", "report.html")
    assert [line for line in said if line.startswith(str(out))] == [str(out / n) for n in names]
    assert any(line.startswith("overlap ") for line in said)
    target = intensities(fixed)
    before = inner(target - intensities(moving))
    assert inner(target - intensities(out / "warped.nii.gz")) < 0.6 * before
    assert (out / "picture.png").stat().st_size > 50_000
    main(["warp", str(out / "transform.nii.gz"), "--image", str(moving), "--reference", str(fixed),
          "--out", str(tmp_path / "again.nii.gz")])  # fmt: skip
    np.testing.assert_array_equal(
        intensities(tmp_path / "again.nii.gz"), intensities(out / "warped.nii.gz")
    )


@pytest.mark.slow
def test_a_scan_whose_header_places_it_elsewhere_is_found_and_itk_agrees(
    scans: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The header of the moving scan is turned by 20 degrees and 300 mm away; nothing overlaps."""
    fixed, _ = scans
    image = nib.load(fixed)
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("zx", [20, -10], degrees=True).as_matrix()
    turn[:3, 3] = [300.0, -20, 10]
    away = tmp_path / "away.nii.gz"
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), turn @ image.affine), away)
    result = register(fixed, away, tmp_path / "out", preset="lung", device="cpu")
    assert "first aligned by a rigid map" in capsys.readouterr().out
    transform = sitk.DisplacementFieldTransform(
        sitk.ReadImage(str(result.files.transform), sitk.sitkVectorFloat64)
    )
    reference = sitk.ReadImage(str(fixed), sitk.sitkFloat32)
    by_itk = sitk.GetArrayFromImage(sitk.Resample(sitk.ReadImage(str(away)), reference, transform))
    target = sitk.GetArrayFromImage(reference)
    assert inner(by_itk - target) < 0.1 * inner(target - target.mean())
    report = json.loads(result.files.report.read_text())
    assert report["initial_map"]["source"] == "rigid"
    assert report["initial_map"]["similarity"] > 0.9 > report["initial_map"]["header_similarity"]
    assert report["verdict"]["flags"] == []
    assert report["inputs"]["fixed"]["image"] == str(fixed)
    assert report["modalities"] == ["CT", "CT"]


def test_an_inverted_contrast_is_registered_by_what_suits_it_and_flagged(
    phantoms: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same brain, with the contrast inverted inside, is moved by no setting."""
    fixed = next((phantoms["oasis"] / "task_03").rglob("aligned_norm.nii.gz"))
    image = nib.load(fixed)
    array = image.get_fdata()
    inverted = np.where(array > 0.05 * array.max(), 1.05 * array.max() - array, 0)
    moving = tmp_path / "inverted.nii.gz"
    nib.save(nib.Nifti1Image(inverted.astype(np.float32), image.affine), moving)
    with pytest.raises(SystemExit) as end:
        main(["register", str(fixed), str(moving), "--out", "out", "--like", "oasis", "--strict"])
    assert end.value.code == 3
    flag = "--like brain made the scans less alike: --like abdomen is used instead"
    assert f"!!! {flag}" in capsys.readouterr().out
    assert json.loads(Path("out/registration.json").read_text())["verdict"]["flags"] == [flag]
    vectors = np.asarray(nib.load("out/transform.nii.gz").dataobj)[:, :, :, 0]
    assert np.linalg.norm(vectors, axis=-1)[array > 0.1 * array.max()].mean() < 2.0  # mm


def test_grids_may_differ_and_itk_applies_the_transform_to_the_original_scan(
    scans: tuple[Path, Path], tmp_path: Path
) -> None:
    """The moving scan is cropped, sampled on another grid and stored back to front."""
    fixed, moving = scans
    image = nib.load(moving)
    cropped = image.get_fdata()[4:-2, :, 3:].astype(np.float32)
    shape = (54, 64, 66)
    coarse = resize_image(torch.from_numpy(cropped)[None, None], shape)[0, 0].numpy()
    scale = [(old - 1) / (new - 1) for old, new in zip(cropped.shape, shape, strict=True)]
    shifted = image.affine @ np.array(
        [[1, 0, 0, 4], [0, 1, 0, 0], [0, 0, 1, 3], [0, 0, 0, 1]]
    ) @ np.diag([*scale, 1.0])  # fmt: skip
    mirror = np.diag([-1.0, 1, 1, 1])
    mirror[0, 3] = shape[0] - 1
    other = tmp_path / "other.nii.gz"
    nib.save(nib.Nifti1Image(coarse[::-1].copy(), shifted @ mirror), other)
    written = register(fixed, other, tmp_path / "out", preset="lung", device="cpu")
    warped, target = intensities(written.files.warped), intensities(fixed)
    assert warped.shape == target.shape
    assert inner(target - warped) < 0.6 * inner(target - intensities(moving))
    transform = sitk.DisplacementFieldTransform(
        sitk.Cast(sitk.ReadImage(str(written.files.transform)), sitk.sitkVectorFloat64)
    )
    resampled = sitk.Resample(
        sitk.ReadImage(str(other)),
        sitk.ReadImage(str(fixed), sitk.sitkFloat32),
        transform,
        sitk.sitkLinear,
        -1024.0,
    )
    by_itk = sitk.GetArrayFromImage(resampled).transpose(2, 1, 0)
    assert (by_itk == -1024).mean() > 0.05
    np.testing.assert_allclose(by_itk, warped, rtol=0, atol=0.1)


@pytest.mark.parametrize("unit", [pytest.param("mm", marks=pytest.mark.slow), "micron"])
def test_files_written_lie_where_itk_sees_the_fixed_scan_though_its_forms_disagree(
    scans: tuple[Path, Path], tmp_path: Path, unit: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Qform code 1 and sform code 2, apart: ITK takes the one, nibabel the other."""
    turned = np.array(
        [[0.96, 0.28, 0, 20.4], [-0.28, 0.96, 0, -11.1], [0, 0, 1, 8.7], [0, 0, 0, 1]]
    )
    scale = np.diag([1e3, 1e3, 1e3, 1]) if unit == "micron" else np.eye(4)
    paths = [tmp_path / "fixed.nii.gz", tmp_path / "moving.nii.gz"]
    for path, scan in zip(paths, scans, strict=True):
        image = nib.load(scan)
        coarse = np.asarray(image.dataobj)[::2, ::2, ::2]
        qform = turned @ image.affine @ np.diag([2.0, 2, 2, 1])
        header = nib.Nifti1Header()
        header.set_xyzt_units(unit)
        header.set_data_dtype(np.int16)
        copy = nib.Nifti1Image(coarse, None, header)
        copy.set_qform(scale @ qform, code=1)
        copy.set_sform(scale @ turned @ qform, code=2)
        nib.save(copy, path)
    written = register(*paths, tmp_path / "out", preset="lung", device="cpu")
    said = capsys.readouterr().out.splitlines()
    told = [line.split(":")[0] for line in said if not line.startswith("first aligned")]
    assert told == [str(path) for path in paths]
    fixed, moving, warped = (
        sitk.ReadImage(str(path), sitk.sitkFloat32) for path in (*paths, written.files.warped)
    )
    field = sitk.ReadImage(str(written.files.transform), sitk.sitkVectorFloat64)
    np.testing.assert_allclose(field.GetOrigin(), fixed.GetOrigin(), rtol=0, atol=1e-4)
    transform = sitk.DisplacementFieldTransform(field)
    by_itk = sitk.Resample(moving, fixed, transform, sitk.sitkLinear, 0.0)
    assert inner(sitk.GetArrayFromImage(by_itk - warped)) < 0.5
    difference = sitk.ReadImage(str(paths[0])) - sitk.ReadImage(str(written.files.warped))
    assert difference.GetPixelID() == sitk.sitkInt16
    after = inner(sitk.GetArrayFromImage(difference))
    assert after < 0.7 * inner(sitk.GetArrayFromImage(fixed) - sitk.GetArrayFromImage(moving))


def test_scans_that_lie_elsewhere_are_refused_with_what_to_do(
    scans: tuple[Path, Path], tmp_path: Path
) -> None:
    fixed, moving = scans
    image = nib.load(moving)
    away = image.affine.copy()
    away[0, 3] += 1000
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), away), tmp_path / "away.nii.gz")
    with pytest.raises(InputError, match=r"(?s)hardly overlaps.*0 % of the smaller.*origin"):
        register(fixed, tmp_path / "away.nii.gz", tmp_path / "out", preset="lung",
                 device="cpu", prealign="none")  # fmt: skip
    assert not (tmp_path / "out").exists()


def refusal(fixed: Path, moving: Path, out: Path, preset: str) -> str:
    """Return why the registration was refused, before anything was computed."""
    with (
        patch("l2reg.inference.method.Method.solve", side_effect=AssertionError("computed")),
        pytest.raises(InputError) as error,
    ):
        register(fixed, moving, out, preset=preset, device="cpu")
    return str(error.value)


@pytest.mark.parametrize("name", ["warped.nii.gz", "transform.nii.gz", "picture.png"])
@pytest.mark.parametrize("role", ["fixed", "moving"])
@pytest.mark.parametrize("link", [None, "file", "hard", "folder"])
def test_an_output_never_replaces_an_input(
    scans: tuple[Path, Path], tmp_path: Path, name: str, role: str, link: str | None
) -> None:
    source = tmp_path / "store" / (name if link in (None, "folder") else "scan.nii.gz")
    source.parent.mkdir()
    source.write_bytes(scans[role == "moving"].read_bytes())
    out = source.parent
    if link == "file":
        out = tmp_path / "out"
        out.mkdir()
        (out / name).symlink_to(source)
    elif link == "hard":
        (out / name).hardlink_to(source)
    elif link == "folder":
        out = tmp_path / "out"
        out.symlink_to(source.parent)
    before, names = source.read_bytes(), sorted(out.iterdir())
    pair = (source, scans[1]) if role == "fixed" else (scans[0], source)
    message = refusal(*pair, out, "lung")
    assert f"{source}: is an input" in message
    assert f"{out / name} is the same file" in message
    assert "--out" in message
    assert source.read_bytes() == before
    assert sorted(out.iterdir()) == names


def test_another_scan_in_the_output_folder_is_no_input(tmp_path: Path) -> None:
    for name in ("warped.nii.gz", "fixed.nii.gz"):
        (tmp_path / name).write_bytes(b"same bytes, another file")
    outputs = [tmp_path / "warped.nii.gz", tmp_path / "picture.png"]
    assert overwrite_problems([tmp_path / "fixed.nii.gz", tmp_path / "none"], outputs) == []


def test_a_shift_by_a_voxel_is_found_in_scans_of_eight_voxels(
    volume: Callable[..., Path], tmp_path: Path, random: np.random.Generator
) -> None:
    structure = gaussian_filter(random.normal(size=(5, 7, 8)), 1.0).astype("f4")
    body = np.pad(structure - structure.min() + 0.1, ((2, 2), (1, 1), (1, 1)))
    shifted = body[1:], body[:-1]
    fixed, moving = (
        volume(tmp_path / f"{name}.nii.gz", array, (40.0,) * 3)
        for name, array in zip("ab", shifted, strict=True)
    )
    written = register(fixed, moving, tmp_path / "out", preset="abdomen", device="cpu")
    after = np.abs(intensities(written.files.warped) - shifted[0]).mean()
    assert after < 0.7 * np.abs(shifted[1] - shifted[0]).mean()


def test_a_field_that_leads_out_of_the_moving_scan_is_not_written(
    volume: Callable[..., Path], tmp_path: Path, random: np.random.Generator
) -> None:
    """So the search ended on two scans of noise, eight voxels of 40 mm wide."""
    scan = volume(tmp_path / "a.nii.gz", random.random((8, 9, 10)).astype("f4"))
    with (
        patch(
            "l2reg.inference.method.Method.solve",
            return_value=torch.full((1, 3, 8, 9, 10), 8.0),
        ),
        pytest.raises(InputError, match=r"(?s)could not be registered.* 0 % of .*100 % by the"),
    ):
        register(scan, scan, tmp_path / "out", preset="abdomen", device="cpu")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_to_is_refused_before_the_work(
    scans: tuple[Path, Path], tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    for out in (file, file / "out"):
        with patch("l2reg.registration.register.read_scans", side_effect=AssertionError("read")):
            said = refusal(*scans, out, "lung")
        assert "cannot be written" in said
        assert str(out) in said
    assert file.read_text() == "mine"


def test_a_missing_file_is_named(tmp_path: Path, scans: tuple[Path, Path]) -> None:
    with pytest.raises(SystemExit, match=r"nothing\.nii\.gz: is missing"):
        main(["register", str(scans[0]), str(tmp_path / "nothing.nii.gz"), "--out", "x"])


@pytest.mark.parametrize(
    ("axis", "preset"),
    [(2, "lung"), *(pytest.param(*other, marks=pytest.mark.slow)
                    for other in ((0, "lung"), (1, "abdomen")))],
)  # fmt: skip
def test_the_same_scan_with_a_smaller_field_of_view_is_not_moved(
    scans: tuple[Path, Path], tmp_path: Path, axis: int, preset: str
) -> None:
    image = nib.load(scans[0])
    n = image.shape[axis]
    kept = slice(n // 5, n // 5 + n // 2)
    slicer = [slice(None)] * 3
    slicer[axis] = kept
    part = image.slicer[tuple(slicer)]
    moving = tmp_path / "part.nii.gz"
    nib.save(part, moving)
    files = register(scans[0], moving, tmp_path / "out", preset=preset, device="cpu")
    vectors = np.asarray(nib.load(files.files.transform).dataobj)[:, :, :, 0]
    error = np.linalg.norm(vectors, axis=-1)[tuple(slicer)]
    assert error.mean() < 0.5  # mm; voxels of the phantom are 4 to 5 mm wide
    assert np.percentile(error, 95) < 1.5
    warped = intensities(files.files.warped)
    inside = tuple(slicer)
    np.testing.assert_allclose(warped[inside], part.get_fdata(), atol=40)
    outside = np.ones(warped.shape, dtype=bool)
    outside[
        tuple(slice(max(s.start - 2, 0), s.stop + 2) if s.start is not None else s for s in slicer)
    ] = False
    assert (warped[outside] == -1024).all()  # HU of air


@pytest.mark.parametrize(
    ("padding", "preset"),
    [(-3024, "lung"), *(pytest.param(*other, marks=pytest.mark.slow)
                        for other in ((-1024, "abdomen"), (0, "oasis")))],
)  # fmt: skip
def test_the_same_scan_in_two_scanner_circles_is_not_moved(
    scans: tuple[Path, Path],
    tmp_path: Path,
    padding: int,
    preset: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The circles cut the body, 2 voxels apart along both axes."""
    image = nib.load(scans[0])
    array = image.get_fdata()
    i, j, _ = np.indices(array.shape)
    centre = (np.array(array.shape) - 1) / 2
    distances = [np.hypot(i - centre[0] - by, j - centre[1] + by) for by in (0, 2)]
    radius = 0.42 * min(array.shape[:2])
    paths = []
    for name, distance in zip("ab", distances, strict=True):
        cut = np.where(distance > radius, padding, array).astype(np.int16)
        paths.append(tmp_path / f"{name}.nii.gz")
        nib.save(nib.Nifti1Image(cut, image.affine), paths[-1])
    files = register(*paths, tmp_path / "out", preset=preset, device="cpu")
    vectors = np.asarray(nib.load(files.files.transform).dataobj)[:, :, :, 0]
    seen = np.maximum(*distances) < radius - 3
    error = np.linalg.norm(vectors, axis=-1)[seen]
    assert error.mean() < 0.5  # mm; voxels of the phantom are 4 to 5 mm wide
    assert f"padding of intensity {padding}, which is not compared" in capsys.readouterr().out


@pytest.mark.slow
def test_scanner_circles_that_share_nothing_are_refused_or_flagged(
    scans: tuple[Path, Path], tmp_path: Path
) -> None:
    """The volumes lie at the same place, but each shows another side of the body."""
    image = nib.load(scans[0])
    array = image.get_fdata()
    i, j, _ = np.indices(array.shape)
    radius = array.shape[0] / 4 - 1
    paths = []
    for name, share in (("a", 0.25), ("b", 0.75)):
        away = np.hypot(i - share * (array.shape[0] - 1), j - (array.shape[1] - 1) / 2) > radius
        paths.append(tmp_path / f"{name}.nii.gz")
        cut = np.where(away, -3024, array).astype(np.int16)
        nib.save(nib.Nifti1Image(cut, image.affine), paths[-1])
    with pytest.raises(InputError, match=r"b\.nii\.gz: hardly overlaps .*a\.nii\.gz"):
        register(*paths, tmp_path / "out", preset="lung", device="cpu", prealign="none")
    searched = register(*paths, tmp_path / "out", preset="lung", device="cpu")
    assert searched.verdict.flags[0].startswith("weak start")


@pytest.mark.slow
def test_oblique_scans_in_nrrd_are_registered_where_itk_sees_them(
    scans: tuple[Path, Path], tmp_path: Path
) -> None:
    """The fixed scan is one of two volumes; slices are two voxels thick."""
    turn = Rotation.from_euler("zxy", [30, -15, 10], degrees=True).as_matrix()
    images = []
    for path in scans:
        image = sitk.ReadImage(str(path))[:, :, ::2]
        image.SetDirection((turn @ np.reshape(image.GetDirection(), (3, 3))).ravel().tolist())
        image.SetOrigin((11.0, -7.0, 300.0))
        images.append(image)
    sitk.WriteImage(sitk.JoinSeries([images[0] * 0, images[0]]), str(tmp_path / "fixed.nrrd"))
    sitk.WriteImage(images[1], str(tmp_path / "moving.mha"))
    main(["register", str(tmp_path / "fixed.nrrd"), str(tmp_path / "moving.mha"), "--out",
          str(tmp_path / "out"), "--volume", "1", "--like", "lung", "--device", "cpu"])  # fmt: skip
    field = sitk.ReadImage(str(tmp_path / "out/transform.nii.gz"), sitk.sitkVectorFloat64)
    transform = sitk.DisplacementFieldTransform(field)
    by_itk = sitk.Resample(images[1], images[0], transform, sitk.sitkLinear, -1024.0)
    warped = sitk.ReadImage(str(tmp_path / "out/warped.nii.gz"))
    assert warped.GetPixelID() == images[1].GetPixelID()
    np.testing.assert_allclose(warped.GetOrigin(), images[0].GetOrigin(), atol=1e-3)
    np.testing.assert_allclose(warped.GetDirection(), images[0].GetDirection(), atol=1e-5)
    found, expected, target = map(sitk.GetArrayFromImage, (warped, by_itk, images[0]))
    np.testing.assert_allclose(found, expected, atol=1)
    before = np.abs(target - sitk.GetArrayFromImage(sitk.Resample(images[1], images[0]))).mean()
    assert np.abs(target - found).mean() < 0.6 * before


@pytest.mark.slow
def test_masks_labels_landmarks_and_a_given_start_are_taken(
    scans: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The moving scan is declared 60 mm away, which the given map undoes; half of it is masked."""
    fixed, moving = scans
    image = nib.load(moving)
    affine = image.affine.copy()
    affine[:3, 3] += (60.0, -20.0, 0.0)
    away, mask = tmp_path / "away.nii.gz", tmp_path / "mask.nii.gz"
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), away)
    inside = np.ones(image.shape, np.uint8)
    inside[: image.shape[0] // 4] = 0
    nib.save(nib.Nifti1Image(inside, nib.load(fixed).affine), mask)
    labels = [tmp_path / "fixed_labels.nii.gz", tmp_path / "moving_labels.nii.gz"]
    for path, scan, place in zip(labels, (fixed, moving), (nib.load(fixed).affine, affine),
                                 strict=True):  # fmt: skip
        lung = (intensities(scan) < -600).astype(np.uint8)
        nib.save(nib.Nifti1Image(lung, place), path)
    np.savetxt(tmp_path / "points.csv", [[20, 20, 20], [30, 25, 30]], delimiter=",")
    ras = nib.affines.apply_affine(nib.load(fixed).affine, [[20, 20, 20], [30, 25, 30]])
    np.savetxt(tmp_path / "ras.csv", ras, delimiter=",")
    sitk.WriteTransform(sitk.TranslationTransform(3, (-60.0, 20.0, 0.0)), str(tmp_path / "a.tfm"))
    points = str(tmp_path / "points.csv")
    main(["register", str(fixed), str(away), "--out", str(tmp_path / "out"), "--like", "lung",
          "--initial", str(tmp_path / "a.tfm"), "--fixed-mask", str(mask), "--device", "cpu",
          "--fixed-labels", str(labels[0]), "--moving-labels", str(labels[1]),
          "--fixed-points", points, "--moving-points", points, "--coordinates", "voxels",
          "--save", "inverse,jacobian,initial,deformable"])  # fmt: skip
    said = capsys.readouterr().out
    assert "starts from the given map, 63.2 mm and 0.0 degrees away from the headers" in said
    report = json.loads((tmp_path / "out" / "registration.json").read_text())
    before, after = report["scores"]["before"], report["scores"]["after"]
    assert before["tre_mm"][0] == pytest.approx(np.hypot(60, 20), abs=1e-3)
    assert after["tre_mm"][0] < 25
    assert before["dice"]["1"] + 0.2 < after["dice"]["1"]
    assert f"Dice {before['dice']['1']:.3f} -> {after['dice']['1']:.3f} (1 label)" in said
    for name in ("inverse", "jacobian"):
        assert str(tmp_path / "out" / f"{name}.nii.gz") in said.splitlines()
    assert nib.load(tmp_path / "out" / "inverse.nii.gz").shape[:3] == image.shape
    stages = [str(tmp_path / "out/deformable.nii.gz"), f"greedy:{tmp_path / 'out/initial.mat'}"]
    for name, transforms in (("one", [str(tmp_path / "out/transform.nii.gz")]), ("two", stages)):
        main(["warp", *transforms, "--points", str(tmp_path / "ras.csv"), "--coordinates", "ras",
              "--out", str(tmp_path / f"{name}.csv")])  # fmt: skip
    by_one, by_two = (np.loadtxt(tmp_path / f"{n}.csv", delimiter=",") for n in ("one", "two"))
    np.testing.assert_allclose(by_two, by_one, atol=0.01)
    assert abs(intensities(tmp_path / "out" / "jacobian.nii.gz").mean() - 1) < 0.3


def test_a_given_field_is_refined_and_not_lost_and_the_wrong_direction_is_flagged(
    random: np.random.Generator,
) -> None:
    """The fixed scan is the moving one resampled by ITK: a bent field, then 60 mm away."""
    body = gaussian_filter(random.normal(size=(22, 18, 20)), 1.3).astype("f4")
    moving = sitk.GetImageFromArray(body - body.min() + 0.1)
    moving.SetSpacing((2.0, 2.5, 3.0))
    moving.SetDirection(Rotation.from_euler("zx", [12, -8], degrees=True).as_matrix().ravel())
    size, spacing = (18, 19, 20), (2.2, 2.4, 2.6)
    bumps = [gaussian_filter(random.normal(size=size[::-1]), 3) for _ in range(3)]
    field = sitk.GetImageFromArray(np.stack(bumps, axis=-1) * 80, isVector=True)
    field.SetSpacing(spacing)
    field.SetOrigin((-60.0, 20.0, 0.0))
    field.SetDirection(moving.GetDirection())
    known = sitk.CompositeTransform(3)
    known.AddTransform(sitk.TranslationTransform(3, (60.0, -20.0, 3.0)))
    known.AddTransform(sitk.DisplacementFieldTransform(sitk.Image(field)))  # acts first
    fixed = sitk.Resample(moving, size, known, sitk.sitkLinear, (-60.0, 20.0, 0.0), spacing,
                          moving.GetDirection())  # fmt: skip
    known.FlattenTransform()
    sitk.WriteTransform(known, "known.h5")
    at = [fixed.TransformContinuousIndexToPhysicalPoint(p) for p in random.uniform(6, 12, (9, 3))]
    expected = np.array([known.TransformPoint(p) for p in at])
    bent = np.linalg.norm(expected - at - [60, -20, 3], axis=1)
    assert bent.max() > 2.0
    arguments = {"device": "cpu", "initial": "known.h5"}
    result = register(fixed, moving, "out", save=("initial", "deformable"), **arguments)
    to_lps = np.array([-1, -1, 1])
    found = result.points(np.array(at) * to_lps) * to_lps
    assert np.linalg.norm(found - expected, axis=1).max() < 0.2  # mm
    assert result.verdict.flags == ()
    stages = [l2reg.read(name) for name in ("out/deformable.nii.gz", "greedy:out/initial.mat")]
    by_stages = stages[1](stages[0]((np.array(at) * to_lps).T)).T * to_lps
    np.testing.assert_allclose(by_stages, found, atol=0.01)
    assert json.loads(Path("out/registration.json").read_text())["initial_map"]["source"] == "field"
    with pytest.raises(InputError, match="hardly overlap"):  # from moving to fixed
        register(moving, fixed, **arguments)


def test_landmarks_that_are_used_are_met_and_are_no_score(
    volume: Callable[..., Path], random: np.random.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    """The scans are alike as they lie; a landmark inside of them is said to be 4 mm away."""
    body = gaussian_filter(random.normal(size=(17, 14, 15)), 1.5).astype("f4")
    scan = volume(Path("a.nii.gz"), body - body.min() + 0.1, (4.0, 4.0, 4.0))
    labels = volume(Path("labels.nii.gz"), (body > 0).astype(np.uint8), (4.0, 4.0, 4.0))
    np.savetxt("fixed.csv", [[32.0, 28.0, 28.0]], delimiter=",")
    np.savetxt("moving.csv", [[36.0, 28.0, 28.0]], delimiter=",")
    main(["register", str(scan), str(scan), "--out", "out", "--device", "cpu", "--prealign", "none",
          "--fixed-labels", str(labels), "--moving-labels", str(labels), "--coordinates", "ras",
          "--fixed-points", "fixed.csv", "--moving-points", "moving.csv", "--use",
          "points"])  # fmt: skip
    report = json.loads(Path("out/registration.json").read_text())
    assert report["inputs"]["use"] == ["points"]
    fit = report["used, not a score"]
    assert fit["before"]["tre_mm"] == [4.0]
    assert fit["after"]["tre_mm"][0] < 2.0
    assert fit["after"]["dice"] == {}
    assert report["scores"]["after"]["tre_mm"] == []
    assert set(report["scores"]["after"]["dice"]) == {"1"}
    said = capsys.readouterr().out.splitlines()
    assert next(line for line in said if line.startswith("TRE 4.00 -> ")).endswith(
        "(1 landmark); used, not a score"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--fixed-labels {fixed}", "--moving-labels: is missing"),
        ("--fixed-points a.csv --moving-points a.csv", "--coordinates: is missing"),
        ("--fixed-points a.csv --moving-points a.csv --coordinates ras", "a.csv: is not a table"),
        ("--use labels", "--use labels: has nothing to act on"),
        ("--fixed-mask small.nii.gz", "small.nii.gz: does not lie on the grid of"),
        ("--initial nothing.tfm", "nothing.tfm: is no file"),
        ("--initial bare.mat", "greedy:bare.mat or fsl:bare.mat"),
        ("--initial greedy:bare.mat --prealign rigid", "--initial or --prealign"),
        ("--fixed-mask out/inverse.nii.gz --save inverse", "is an input, and the output would"),
    ],
)
def test_other_inputs_are_refused_before_the_work(
    scans: tuple[Path, Path], own_folder: None, words: str, message: str
) -> None:
    fixed, moving = scans
    np.savetxt("bare.mat", np.eye(4))
    nib.save(nib.Nifti1Image(np.ones((4, 5, 6), np.uint8), np.eye(4)), "small.nii.gz")
    if "out/" in words:
        Path("out").mkdir()
        shutil.copy(fixed, "out/inverse.nii.gz")
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    with pytest.raises(SystemExit) as stop:
        main(["register", str(fixed), str(moving), "--out", "out", "--device", "cpu",
              *words.format(fixed=fixed).split()])  # fmt: skip
    assert message in str(stop.value.code)
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*")} == before
