import shutil
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from l2reg.own_data.check import duplicate_images, own_problems, own_warnings

Own = SimpleNamespace

HEADER = "fixed,moving,fixed_labels,moving_labels,fixed_points,moving_points\n"
GOOD = "f.nii.gz,m.nii.gz,seg_f.nii.gz,seg_m.nii.gz,f.csv,m.csv\n"


def said(own: Own, row: str, **changes: object) -> str:
    data = own.data(HEADER + row, coordinates="ras", val_fraction=0.0, **changes)
    return "\n".join(map(str, own_problems(data, data.table.rows)))


def warned(own: Own, row: str) -> str:
    data = own.data(HEADER + row, coordinates="ras", val_fraction=0.0)
    assert own_problems(data, data.table.rows) == []
    return "\n".join(map(str, own_warnings(data, data.table.rows)))


@pytest.mark.usefixtures("two_headers")
def test_sound_files_have_no_problem_and_no_warning(own: Own) -> None:
    assert said(own, GOOD) == ""
    assert warned(own, GOOD) == ""


@pytest.mark.usefixtures("two_headers")
def test_every_fault_is_told_with_its_file(own: Own) -> None:
    assert "none.nii.gz: is missing" in said(own, "f.nii.gz,none.nii.gz,,,,\n")
    assert "m.csv: is not a table of points" in said(
        own, GOOD.replace("m.csv", "seg_m.nii.gz").replace("f.csv", "f.csv")
    ) or "seg_m.nii.gz: is not a table of points" in said(
        own, GOOD.replace("m.csv", "seg_m.nii.gz")
    )
    other = said(own, GOOD.replace("seg_m", "seg_f"))
    assert "seg_f.nii.gz: does not lie on the grid of" in other
    Path("dicom").mkdir()
    assert "dicom: is a folder" in said(own, "f.nii.gz,dicom,,,,\n")
    np.savetxt("m.csv", [[0.0, 0, 0], [90.0, 0, 0]], delimiter=",")
    points = said(own, GOOD)
    assert "m.csv: has points outside of" in points
    assert "1 of 2, the first is point 2: 90, 0, 0, which is voxel" in points
    np.savetxt("m.csv", [[0.0, 0, 0]], delimiter=",")
    assert "pair_001: has points that do not correspond" in said(own, GOOD)
    shape, affine = own.moving
    nib.save(nib.Nifti1Image(np.full(shape, 9, np.uint8), affine), "seg_m.nii.gz")
    assert "has label maps without a common label" in said(own, GOOD)
    nib.save(nib.Nifti1Image(np.full(shape, 7.0, np.float32), affine), "m.nii.gz")
    assert "m.nii.gz: has one intensity everywhere" in said(own, "f.nii.gz,m.nii.gz,,,,\n")


@pytest.mark.usefixtures("two_headers")
def test_what_is_not_used_is_warned_of(own: Own) -> None:
    assert "has points of one scan, which are not used" in warned(own, GOOD.replace("m.csv", ""))
    labels = nib.load("seg_m.nii.gz")
    cut = np.where(labels.get_fdata() == 4, 6, labels.get_fdata()).astype(np.uint8)
    nib.save(nib.Nifti1Image(cut, labels.affine), "seg_m.nii.gz")
    assert "[4] in the fixed scan alone, [6] in the moving one alone" in warned(own, GOOD)


def test_scans_that_hardly_overlap_are_refused_unless_they_start_at_their_centres(own: Own) -> None:
    for name, x in (("a.nii.gz", 0.0), ("b.nii.gz", 38.0), ("c.nii.gz", 24.0)):
        own.write(name, (20, 20, 20), own.header((20, 20, 20), (2.0, 2.0, 2.0), centre=(x, 0, 0)))
    assert "found     6 % of" in said(own, "a.nii.gz,b.nii.gz,,,,\n")
    assert said(own, "a.nii.gz,b.nii.gz,,,,\n", start="centres") == ""
    assert "hardly overlap" in warned(own, "a.nii.gz,c.nii.gz,,,,\n")


@pytest.mark.usefixtures("two_headers")
def test_the_same_image_in_two_splits_is_found_under_another_name(own: Own) -> None:
    shutil.copy("f.nii.gz", "copy.nii.gz")
    data = own.data("fixed,moving,subject,split\nf.nii.gz,m.nii.gz,1,val\ncopy.nii.gz,n,2,train\n")
    (problem,) = duplicate_images(data)
    assert problem.what == "is in two splits"
    assert "the same bytes as" in problem.found
    channels = "fixed,moving,fixed_channel,moving_channel,subject,split\n"
    swapped = "f.nii.gz,m,g,n,1,val\ng2,m2,copy.nii.gz,n2,2,train\n"
    (problem,) = duplicate_images(own.data(channels + swapped))
    assert problem.where.endswith("f.nii.gz")
    assert "val and train: the same bytes as" in problem.found
    alone = own.data("fixed,moving,split\nf.nii.gz,m.nii.gz,val\nx,n,train\n")
    assert duplicate_images(alone) == []


@pytest.mark.usefixtures("two_headers")
def test_a_file_without_fault_is_read_once(own: Own) -> None:
    row = "f.nii.gz,m.nii.gz,,,,\n"
    assert said(own, row, cache="cache") == ""
    assert len(list(Path("cache").iterdir())) == 2


@pytest.mark.usefixtures("two_headers")
def test_a_scan_paired_with_itself_is_warned_of(own: Own) -> None:
    shutil.copy("f.nii.gz", "copy.nii.gz")
    for other in ("f.nii.gz", "copy.nii.gz"):
        assert "pair_001: names one scan twice" in warned(own, f"f.nii.gz,{other},,,,\n")
    volumes = np.stack([nib.load("f.nii.gz").get_fdata(), nib.load("f.nii.gz").get_fdata() ** 2])
    nib.save(nib.Nifti1Image(np.moveaxis(volumes, 0, -1), nib.load("f.nii.gz").affine), "4d.nii")
    table = "fixed,fixed_volume,moving,moving_volume\n4d.nii,0,4d.nii,{}\n"
    for volume, n in ((0, 1), (1, 0)):
        data = own.data(table.format(volume), val_fraction=0.0)
        assert len(own_warnings(data, data.table.rows)) == n
