from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from l2reg.config.build import build
from l2reg.config.presets import load_preset
from l2reg.io.scan_source import ScanSource
from l2reg.problems import InputError
from l2reg.registration.scan_pair import read_scans

PRESETS = build(load_preset("register", "default"))["intensity"]
SHAPE = (40, 36, 34)


def ct(random: np.random.Generator) -> np.ndarray:
    array = np.where(random.random(SHAPE) < 0.4, -1000, 40) + random.normal(0, 20, SHAPE)
    return array.astype("f4")


def mr(random: np.random.Generator) -> np.ndarray:
    return (random.random(SHAPE) * 800).astype("f4")


def test_scans_are_normalised_by_what_they_are(
    volume: Callable[..., Path], tmp_path: Path, random: np.random.Generator
) -> None:
    arrays = (ct(random), mr(random))
    paths = (volume(tmp_path / "ct.nii.gz", arrays[0]), volume(tmp_path / "mr.nii.gz", arrays[1]))
    pair = read_scans((ScanSource(paths[0]), ScanSource(paths[1])), "abdomen", PRESETS)
    assert pair.modalities == ("CT", "other")
    fixed, moving = (image[0, 0].numpy() for image in pair.normalise(pair.views))
    np.testing.assert_allclose(fixed, np.clip((arrays[0] + 1000) / 1400, 0, 1), atol=1e-5)
    low, high = np.percentile(arrays[1], [0.5, 99.5])
    np.testing.assert_allclose(moving, np.clip((arrays[1] - low) / (high - low), 0, 1), atol=1e-5)
    assert pair.flags == ()
    assert len(read_scans((ScanSource(paths[0]), ScanSource(paths[1])), "lung", PRESETS).flags) == 1


def test_a_mask_of_air_alone_makes_no_other_scan_of_a_ct(
    volume: Callable[..., Path], tmp_path: Path, random: np.random.Generator
) -> None:
    array = ct(random)
    path = volume(tmp_path / "ct.nii.gz", array)
    mask = volume(tmp_path / "mask.nii.gz", (array < -500).astype("u1"))
    pair = read_scans((ScanSource(path), ScanSource(path)), "lung", PRESETS, (mask, mask))
    assert pair.modalities == ("CT", "CT")
    assert pair.intensities == (PRESETS["lung"]["CT"],) * 2
    assert pair.flags == ()
    np.testing.assert_array_equal(pair.views[0], array < -500)


def test_all_intensities_of_padding_are_told(
    volume: Callable[..., Path],
    tmp_path: Path,
    random: np.random.Generator,
    capsys: pytest.CaptureFixture[str],
) -> None:
    array = ct(random)
    array[:8], array[-4:] = -3024, 0
    path = volume(tmp_path / "ct.nii.gz", array)
    pair = read_scans((ScanSource(path), ScanSource(path)), "abdomen", PRESETS)
    assert pair.views[0][8:-4].all()
    assert pair.views[0].mean() == 0.7
    said = capsys.readouterr().out
    assert "30 % of the volume is padding of intensity -3024 and 0, which" in said


def test_a_header_that_states_no_position_is_told(
    tmp_path: Path, random: np.random.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, affine in (("stated", np.diag([2.0, 2, 2, 1])), ("unstated", None)):
        nib.save(nib.Nifti1Image(mr(random), affine), tmp_path / f"{name}.nii.gz")
    sources = tuple(ScanSource(tmp_path / f"{name}.nii.gz") for name in ("stated", "unstated"))
    read_scans(sources, "abdomen", PRESETS)  # type: ignore[arg-type]
    said = capsys.readouterr().out
    assert said.count("states no position") == 1
    assert f"{sources[1]}: the header states no position" in said


def test_the_settings_are_chosen_by_what_the_scans_show_and_said(
    volume: Callable[..., Path],
    tmp_path: Path,
    random: np.random.Generator,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = volume(tmp_path / "ct.nii.gz", ct(random), (10.0, 10.0, 10.0))
    pair = read_scans((ScanSource(path), ScanSource(path)), "auto", PRESETS)
    assert pair.preset == "abdomen"
    assert pair.intensities == (PRESETS["abdomen"]["CT"],) * 2
    assert "--like auto: abdomen, as both are CT, but" in capsys.readouterr().out


def test_the_map_of_the_headers_is_that_of_the_affines(
    volume: Callable[..., Path], tmp_path: Path, random: np.random.Generator
) -> None:
    paths = (tmp_path / "a.nii.gz", tmp_path / "b.nii.gz")
    affines = (np.diag([2.0, 3, 1.5, 1]), np.array(
        [[0, 2.0, 0, 4], [-1.5, 0, 0, 9], [0, 0, 3, -7], [0, 0, 0, 1]]))  # fmt: skip
    for path, affine in zip(paths, affines, strict=True):
        nib.save(nib.Nifti1Image(mr(random), affine), path)
    pair = read_scans((ScanSource(paths[0]), ScanSource(paths[1])), "oasis", PRESETS)
    expected = (np.linalg.inv(affines[1]) @ affines[0])[:3]
    np.testing.assert_allclose(pair.header_map[0], expected, atol=1e-5)
    assert pair.spacing_mm == (2.0, 3.0, 1.5)


def test_the_faults_of_both_files_are_listed_at_once(tmp_path: Path) -> None:
    paths = (tmp_path / "a.nii.gz", tmp_path / "b.nii.gz")
    with pytest.raises(InputError) as error:
        read_scans((ScanSource(paths[0]), ScanSource(paths[1])), "lung", PRESETS)
    assert [problem.where for problem in error.value.problems] == [str(path) for path in paths]
