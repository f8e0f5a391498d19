from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import nibabel as nib
import numpy as np
import pytest

from l2reg.config.presets import CHALLENGE_TASKS
from l2reg.problems import InputError
from l2reg.registration.register import register


@pytest.fixture
def scans(phantoms: dict[str, Path]) -> tuple[Path, Path]:
    folder = phantoms["lung"] / "task_02/training/scans"
    return folder / "case_001_exp.nii.gz", folder / "case_001_insp.nii.gz"


def refusal(fixed: Path, moving: Path, out: Path, preset: str) -> str:
    """Return why the registration was refused, before anything was computed."""
    with (
        patch("l2reg.inference.method.Method.solve", side_effect=AssertionError("computed")),
        pytest.raises(InputError) as error,
    ):
        register(fixed, moving, out, preset=preset, device="cpu")
    return str(error.value)


@pytest.mark.parametrize("value", [-1000, 0, 40])
@pytest.mark.parametrize("preset", CHALLENGE_TASKS)
def test_a_constant_scan_is_refused(
    scans: tuple[Path, Path], volume: Callable[..., Path], tmp_path: Path, value: int, preset: str
) -> None:
    like, word = nib.load(scans[0]), "brain" if preset == "oasis" else preset
    empty = tmp_path / "empty.nii.gz"
    nib.save(nib.Nifti1Image(np.full(like.shape, value, np.int16), like.affine), empty)
    for pair in ((empty, scans[1]), (scans[0], empty)):
        said = refusal(*pair, tmp_path / "out", preset)
        assert said.startswith(f"{empty}: has almost no contrast with --like {word}")
        assert f"found     intensities from {value} to {value}" in said
        assert "remedy    name another file" in said
    assert not (tmp_path / "out").exists()


def test_both_scans_are_refused_at_once_where_both_are_too_small(
    volume: Callable[..., Path], tmp_path: Path, random: np.random.Generator
) -> None:
    flat = volume(tmp_path / "flat.nii.gz", random.random((40, 36, 1)).astype("f4"))
    tiny = volume(tmp_path / "tiny.nii.gz", random.random((7, 8, 9)).astype("f4"), (40.0,) * 3)
    said = refusal(flat, tiny, tmp_path / "out", "abdomen")
    assert "at least 8 voxels along each axis" in said
    assert "found     40 x 36 x 1" in said
    assert "found     7 x 8 x 9" in said
