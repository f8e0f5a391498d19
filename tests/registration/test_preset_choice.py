from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from l2reg.io.volumes import read_volume
from l2reg.problems import InputError
from l2reg.registration.modality import Modality
from l2reg.registration.preset_choice import choose_preset, preset_name

SCANS = {
    "thorax": "lung/task_02/training/scans/case_001_exp.nii.gz",
    "inhaled": "lung/task_02/training/scans/case_001_insp.nii.gz",
    "abdomen": "abdomen/task_01/Train/img0002_tcia_CT.nii.gz",
    "abdomen MR": "abdomen/task_01/Train/img0002_tcia_MR.nii.gz",
    "brain": "oasis/task_03/img0438.nii.gz",
    "other brain": "oasis/task_03/img0439.nii.gz",
}


@pytest.mark.parametrize(
    ("names", "preset", "reason"),
    [
        (("thorax", "inhaled"), "lung", "both are CT, and lungs fill 20 % and 22 % of the body"),
        (("thorax", "abdomen"), "abdomen", "but lungs fill only 20 % and 4 %"),
        (("abdomen", "abdomen MR"), "abdomen", "only one of the scans is a CT"),
        (("brain", "other brain"), "oasis", "no CT, and 1.6 and 1.7 litres on black"),
        (("brain", "abdomen MR"), "abdomen", "not those of a brain"),
    ],
)
def test_scans_are_told_by_modality_and_by_what_they_show(
    phantoms: dict[str, Path], names: tuple[str, str], preset: str, reason: str
) -> None:
    paths = [phantoms[flavour] / rest for flavour, _, rest in
             (SCANS[name].partition("/") for name in names)]  # fmt: skip
    scans = [read_volume(path) for path in paths]
    fixed, moving = (np.ones(scan.array.shape, dtype=bool) for scan in scans)
    kinds: list[Modality] = ["other" if "brain" in name or "MR" in name else "CT" for name in names]
    found, said = choose_preset(scans, (fixed, moving), kinds)
    assert found == preset
    assert reason in said


def test_the_volume_is_in_litres_whatever_the_spacing(random: np.random.Generator) -> None:
    """The same numbers, with voxels three times as long, are no brain."""
    cube = np.zeros((20, 24, 22), np.float32)
    cube[4:14, 5:15, 3:13] = 100 + 50 * random.random((10, 10, 10))
    for mm, preset in ((10.0, "oasis"), (30.0, "abdomen")):
        nib.save(nib.Nifti1Image(cube, np.diag([mm, 10, 10, 1])), "a.nii.gz")
        scan, view = read_volume(Path("a.nii.gz")), np.ones(cube.shape, dtype=bool)
        assert choose_preset([scan, scan], (view, view), ["other", "other"])[0] == preset


@pytest.mark.parametrize(("n_lung", "preset"), [(2, "abdomen"), (3, "lung")])
def test_the_bases_of_lungs_are_no_thorax(n_lung: int, preset: str) -> None:
    """Slices of 1 litre: 2 of lung beside 18 of body, or 3 beside 17."""
    scan = np.full((10, 20, 10), 40, np.int16)
    scan[:, :n_lung] = -800
    nib.save(nib.Nifti1Image(scan, np.diag([20.0, 25, 20, 1])), "a.nii.gz")
    volume, view = read_volume(Path("a.nii.gz")), np.ones(scan.shape, dtype=bool)
    assert choose_preset([volume, volume], (view, view), ["CT", "CT"])[0] == preset


def test_brain_is_another_name() -> None:
    assert preset_name("brain") == preset_name("oasis") == "oasis"
    assert preset_name("auto") == "auto"
    with pytest.raises(InputError, match=r"(?s)--like lungs: is unknown.*did you mean 'lung'"):
        preset_name("lungs")
