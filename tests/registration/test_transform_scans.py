from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from l2reg.problems import InputError
from l2reg.registration.transform_scans import TransformScans, read_scans_of


def test_headers_are_read_and_a_missing_scan_is_named_by_its_option(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.diag([1, 2, 3, 1])), path)
    scans = read_scans_of(path, None)
    assert scans.fixed is not None
    assert scans.fixed.shape == (3, 4, 5)
    for each, option in ((scans, "--moving"), (scans.swapped, "--reference")):
        with pytest.raises(InputError, match=f"found     no {option}"):
            each.both("flirt.mat")
    fixed, moving = TransformScans(scans.fixed, scans.fixed).both("flirt.mat")
    assert fixed is moving is scans.fixed
