from pathlib import Path

import numpy as np
import pytest

from l2reg.io.point_tables import read_point_table, write_point_table
from l2reg.problems import InputError


@pytest.mark.parametrize("header", ["", "x,y,z,t,label\n", "# from 3D Slicer\n"])
def test_header_and_further_columns_are_kept(tmp_path: Path, header: str) -> None:
    text = header + "1.000000,-2.500000,3.000000,0,a b\n4.000000,5.000000,6.250000,1,\n"
    (tmp_path / "points.csv").write_text("\ufeff" + text)
    table = read_point_table(tmp_path / "points.csv")
    np.testing.assert_array_equal(table.points, [[1, -2.5, 3], [4, 5, 6.25]])
    write_point_table(tmp_path / "again.csv", table)
    assert (tmp_path / "again.csv").read_text() == text


def test_three_columns_are_enough(tmp_path: Path) -> None:
    (tmp_path / "points.csv").write_text("1,2,3\n\n4, 5, 6\n")
    table = read_point_table(tmp_path / "points.csv")
    write_point_table(tmp_path / "again.csv", table)
    np.testing.assert_array_equal(np.loadtxt(tmp_path / "again.csv", delimiter=","), table.points)
    assert table.header is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "no row"),
        ("x,y,z\n", "no row"),
        ("x,y,z\n1,2,3\n1,two,3\n", "line 3: '1,two,3'"),
        ("1,2\n1,2,3\n1,2\n", "line 1|line 3"),
        ("1,2,nan\n", "line 1"),
        ("1;2;3\n4;5;6\n", "line 2"),
    ],
)
def test_what_is_no_table_of_points_is_refused(tmp_path: Path, text: str, found: str) -> None:
    (tmp_path / "points.csv").write_text(text)
    with pytest.raises(InputError, match=found):
        read_point_table(tmp_path / "points.csv")


def test_a_missing_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_point_table(tmp_path / "points.csv")


@pytest.mark.parametrize("header", ["id,x,y,z", "Z,Y,X", '"label", "i", "j", "k"'])
def test_coordinates_in_other_columns_than_the_first_three_are_refused(
    tmp_path: Path, header: str
) -> None:
    (tmp_path / "points.csv").write_text(f"{header}\n1,2,3,4\n")
    with pytest.raises(InputError, match=r"move \w, \w, \w to the front"):
        read_point_table(tmp_path / "points.csv")
