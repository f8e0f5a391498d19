from pathlib import Path

from l2reg.registration.table_rows import read_columns, read_rows


def test_cells_are_stripped_and_empty_ones_left_out() -> None:
    Path("t.csv").write_text("\ufeffScan , Note,name\n a.nii ,,\n\nb.nii, x ,second\n")
    assert read_columns(Path("t.csv")) == ["scan", "note", "name"]
    rows = read_rows(Path("t.csv"), ("scan", "note", "name"), ("scan",), default_name="scan")
    assert [row.name for row in rows] == ["scan_001", "second"]
    assert rows[0].cells == {"scan": "a.nii"}
    assert rows[1].cells["note"] == "x"
