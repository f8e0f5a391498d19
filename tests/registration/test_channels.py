from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from scipy.ndimage import gaussian_filter

from l2reg.config.build import build
from l2reg.config.presets import load_preset
from l2reg.io.volumes import Volume, read_volume
from l2reg.problems import InputError
from l2reg.registration.channels import read_channels
from l2reg.registration.register import register
from l2reg.registration.scan_files import ScanFiles

PRESETS = build(load_preset("register", "default"))["intensity"]
Write = Callable[..., Path]


@pytest.fixture
def texture(random: np.random.Generator) -> np.ndarray:
    smooth: np.ndarray = gaussian_filter(random.normal(size=(20, 18, 16)), 1.2).astype("f4")
    return smooth - smooth.min() + 0.1


def volumes(files: tuple[ScanFiles, ScanFiles]) -> tuple[Volume, Volume]:
    return read_volume(files[0].image), read_volume(files[1].image)


def test_a_channel_on_another_grid_lies_where_itk_resamples_it_and_that_is_said(
    volume: Write, texture: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = volume(Path("t1.nii.gz"), texture, (2.0, 2.0, 3.0))
    image = sitk.GetImageFromArray(texture.transpose(2, 1, 0))
    image.SetSpacing((1.9, 2.5, 3.0))
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    image.SetOrigin((-4.0, 3.0, 2.0))
    sitk.WriteImage(image, "t2.nii.gz")
    files = (ScanFiles(scan, channels=["t2.nii.gz"]), ScanFiles(scan, channels=[scan]))
    ((resampled, same),) = read_channels(files, volumes(files), "abdomen", PRESETS)
    reference = sitk.ReadImage(str(scan))
    by_itk = sitk.Resample(image, reference, sitk.Transform(), sitk.sitkLinear, -1.0)
    expected = sitk.GetArrayFromImage(by_itk).transpose(2, 1, 0)
    inside = resampled.view
    assert 0.3 < inside.mean() < 0.95
    np.testing.assert_allclose(resampled.array[inside], expected[inside], atol=1e-4)
    assert (expected[inside] >= 0).all()
    np.testing.assert_array_equal(same.array, texture)
    (said,) = capsys.readouterr().out.splitlines()
    assert said.startswith("t2.nii.gz: resampled onto the grid of t1.nii.gz, of which it covers ")


def test_channels_that_do_not_belong_to_a_scan_are_refused(
    volume: Write, texture: np.ndarray
) -> None:
    scan = volume(Path("a.nii.gz"), texture)
    away = sitk.GetImageFromArray(texture)
    away.SetOrigin((500.0, 0.0, 0.0))
    sitk.WriteImage(away, "away.nii.gz")
    flat = volume(Path("flat.nii.gz"), np.ones_like(texture))
    for channels, message in (
        (([scan], []), "--moving-channel: is missing"),
        ((["away.nii.gz"], [scan]), r"away\.nii\.gz: hardly overlaps a\.nii\.gz"),
        (([scan], [flat]), r"flat\.nii\.gz: has almost no contrast"),
        (([scan], ["none.nii.gz"]), r"none\.nii\.gz: is missing"),
    ):
        files = (ScanFiles(scan, channels=channels[0]), ScanFiles(scan, channels=channels[1]))
        with pytest.raises(InputError, match=message):
            read_channels(files, volumes(files), "abdomen", PRESETS)


def test_a_channel_of_several_volumes_is_stored_as_the_message_says(texture: np.ndarray) -> None:
    nib.save(nib.Nifti1Image(texture, np.eye(4)), "scan.nii.gz")
    nib.save(nib.Nifti1Image(np.stack([texture, -texture], -1), np.eye(4)), "all.nii.gz")
    files = (ScanFiles("scan.nii.gz", channels=["all.nii.gz"]),) * 2
    with pytest.raises(InputError) as error:
        read_channels(files, volumes(files), "abdomen", PRESETS)
    (problem,) = error.value.problems
    assert "A further channel" in problem.remedy
    assert "nibabel.load(FILE).slicer[..., 0]" in problem.remedy
    nib.save(nib.load("all.nii.gz").slicer[..., 0], "one.nii.gz")
    files = (ScanFiles("scan.nii.gz", channels=["one.nii.gz"]),) * 2
    assert len(read_channels(files, volumes(files), "abdomen", PRESETS)) == 1


def test_a_second_channel_shows_what_the_first_one_does_not(
    volume: Write, random: np.random.Generator
) -> None:
    """Halves of the body move apart; each is even in one of the channels."""
    body = gaussian_filter(random.normal(size=(25, 16, 16)), 1.2).astype("f4") * 10 + 5
    moved = np.concatenate([body[:12, :-2], body[12:, 2:]])
    for name, even in (("one", slice(12, None)), ("two", slice(12))):
        for side, array in (("fixed", body[:, 1:-1]), ("moving", moved)):
            channel = array.copy()
            channel[even] = 5
            volume(Path(f"{side}_{name}.nii.gz"), channel, (4.0, 4.0, 4.0))
    error = {}
    for names in ((), ("two",)):
        files = (
            ScanFiles(f"{side}_one.nii.gz", channels=[f"{side}_{name}.nii.gz" for name in names])
            for side in ("fixed", "moving")
        )
        result = register(*files, device="cpu", prealign="none")
        points = np.array([[x, 28.0, 28.0] for x in (72.0, 80.0, 88.0)])  # in the second half
        error[names] = np.abs(result.points(points)[:, 1] - 24.0).mean()
    assert error["two",] < 1.5
    assert error[()] > 3.0
