from pathlib import Path

import pytest

from l2reg.own_data.own_table import read_own_table
from l2reg.problems import InputError


def test_pairs_have_the_columns_of_register_batch_and_subjects() -> None:
    Path("own.csv").write_text(
        "fixed,moving,name,fixed_labels,moving_points,subject,moving_subject,split\n"
        "a.nii,b.nii,first,a_seg.nii,b.csv,Ann,Bob,val\n"
        "mni.nii,c.nii,second,,,,Cy,train\n"
    )
    table = read_own_table(Path("own.csv"), "lps")
    first, second = table.rows
    assert table.paired
    assert table.has_subjects
    assert [scan.subject for scan in first.scans] == ["Ann", "Bob"]
    assert first.split == "val"
    assert first.scans[0].files.labels == Path("a_seg.nii").absolute()
    assert first.scans[1].files.coordinates == "lps"
    assert [scan.subject for scan in second.scans] == [None, "Cy"]
    assert second.subjects == {"Cy"}


def test_single_scans_have_their_own_columns() -> None:
    Path("own.csv").write_text("scan,labels,mask\na.nii,b.nii,\nc.nii,,d.nii\n")
    table = read_own_table(Path("own.csv"), None)
    assert not table.paired
    assert not table.has_subjects
    assert [row.name for row in table.rows] == ["scan_001", "scan_002"]
    assert table.rows[0].scans[0].files.labels == Path("b.nii").absolute()
    assert table.rows[1].subjects == {str(Path("c.nii").resolve())}


def test_a_table_without_rows_is_refused() -> None:
    Path("own.csv").write_text("scan\n")
    with pytest.raises(InputError, match=r"(?s)own.csv: lists no scan.*no row below the header"):
        read_own_table(Path("own.csv"), None)


def test_every_scan_has_as_many_channels_as_the_first() -> None:
    row = "a.nii,b.nii,{},{}\n"
    header = "fixed,moving,fixed_channel,moving_channel\n"
    Path("own.csv").write_text(header + row.format("c.nii; d.nii", "e.nii;f.nii"))
    table = read_own_table(Path("own.csv"), None)
    assert table.n_channels == 3
    channels = table.rows[0].scans[0].files.channels
    assert [source.path.name for source in channels] == ["c.nii", "d.nii"]
    Path("own.csv").write_text(header + row.format("c.nii", "d.nii") + row.format("e.nii", ""))
    with pytest.raises(InputError, match=r"(?s)pair_002: has another number.*2 channels.*2 and 1"):
        read_own_table(Path("own.csv"), None)
    Path("own.csv").write_text("scan,channel\na.nii,b.nii\nc.nii,\n")
    with pytest.raises(InputError, match="scan_002: has another number of channels"):
        read_own_table(Path("own.csv"), None)


def test_columns_that_training_does_not_follow_are_refused() -> None:
    Path("own.csv").write_text("fixed,moving,initial\na.nii,b.nii,c.mat\n")
    with pytest.raises(InputError, match=r"column initial: is not followed in training"):
        read_own_table(Path("own.csv"), None)
