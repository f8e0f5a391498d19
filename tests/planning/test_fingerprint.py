from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from l2reg.planning.fingerprint import read_fingerprint

Own = SimpleNamespace

HEADER = "fixed,moving,fixed_points,moving_points,fixed_labels,moving_labels,subject\n"


@pytest.mark.usefixtures("two_headers")
def test_facts_are_those_of_the_headers_and_the_voxels(own: Own) -> None:
    moved = own.balls + np.array([3.0, -4.0, 0.0])
    np.savetxt("m.csv", moved, delimiter=",")
    shape, _ = own.fixed
    own.write("g.nii.gz", shape, own.header(shape, (1.0, 1.0, 2.0), "LPS"))
    data = own.data(
        HEADER + "f.nii.gz,m.nii.gz,f.csv,m.csv,seg_f.nii.gz,seg_m.nii.gz,1\n"
        "g.nii.gz,m.nii.gz,,,,,2\n",
        coordinates="ras",
    )
    facts = read_fingerprint(data, max_scans=2)
    assert (facts.n_rows, facts.n_subjects, facts.n_labelled, facts.paired) == (2, 2, 1, True)
    np.testing.assert_allclose(facts.spacings_mm, [[1.0, 1.0, 2.0]] * 2, rtol=1e-6)
    assert facts.shapes == ((26, 18, 20), (34, 36, 24))  # ASR: its last axis is R
    assert facts.orientations == {"LPS": 2, "ASR": 1}
    assert all(0.5 < overlap <= 1 for overlap in facts.overlaps)
    np.testing.assert_allclose(facts.displacements_mm, [5.0] * 4, rtol=1e-6)
    assert facts.modalities == {"fixed": {"CT": 2}, "moving": {"CT": 2}}
    low, _, high = facts.intensities["fixed"]
    assert -1000.5 < low < -950
    assert 0 < high < 250
    assert min(facts.contrasts) > 0.5
    assert (facts.extents_mm[0] <= np.array([33.0, 35.0, 38.0]) + 1e-6).all()
    text = "\n".join(facts.lines())
    assert "sizes 26-34 x 18-36 x 20-24 voxels (right, front, top)" in text
    assert "displacement of the points by the headers: mean 5.0 mm" in text


@pytest.mark.usefixtures("two_headers")
def test_single_scans_and_rows_for_tests(own: Own) -> None:
    text = "scan,split\nf.nii.gz,train\nm.nii.gz,train\nnone.nii.gz,test\n"
    facts = read_fingerprint(own.data(text), max_scans=1)
    assert (facts.n_rows, facts.paired) == (2, False)
    assert facts.modalities == {"scan": {"CT": 1}}
    assert len(facts.overlaps) == 2
    assert facts.displacements_mm == []
    Path("f.nii.gz").unlink()
