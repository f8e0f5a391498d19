from pathlib import Path

import numpy as np
import pytest

from l2reg.io.points import read_points
from l2reg.problems import InputError


def test_six_columns_are_fixed_then_moving(tmp_path: Path) -> None:
    path = tmp_path / "k.csv"
    path.write_text("1.0,2.0,3.0,4.5,5.5,6.5\n7,8,9,10,11,12\n")
    fixed, moving = read_points([path])
    np.testing.assert_array_equal(fixed, [[1, 2, 3], [7, 8, 9]])
    np.testing.assert_array_equal(moving, [[4.5, 5.5, 6.5], [10, 11, 12]])
    np.testing.assert_array_equal(read_points([path], reverse=True)[0], moving)


def test_two_files_of_three_columns_correspond_row_by_row(tmp_path: Path) -> None:
    a, b = tmp_path / "a.csv", tmp_path / "b.csv"
    a.write_text("1,2,3\n4,5,6\n")
    b.write_text("7,8,9\n10,11,12\n")
    fixed, moving = read_points([a, b])
    np.testing.assert_array_equal(fixed, [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(moving, [[7, 8, 9], [10, 11, 12]])
    b.write_text("7,8,9\n")
    with pytest.raises(
        InputError, match=r"(?s)the same number of rows.*2 in .*a\.csv, 1 in .*b\.csv"
    ):
        read_points([a, b])


def test_a_byte_order_mark_is_not_part_of_the_first_number(tmp_path: Path) -> None:
    path = tmp_path / "k.csv"
    path.write_bytes(b"\xef\xbb\xbf1.5,2,3,4,5,6\r\n7,8,9,10,11,12\r\n")
    fixed, moving = read_points([path])
    np.testing.assert_array_equal(fixed, [[1.5, 2, 3], [7, 8, 9]])
    np.testing.assert_array_equal(moving, [[4, 5, 6], [10, 11, 12]])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x,y,z,x,y,z\n1,2,3,4,5,6\n", "is not a table of points"),
        ("1,2,3\n", "wrong columns"),
        ("1,2,3,4,5\n", "wrong columns"),
        ("1,2,3,4,5,6\n1,2,3\n", "is not a table of points"),
        ("", "an empty file"),
        ("1,2,3,4,5,nan\n", "not all of them finite"),
    ],
)
def test_other_tables_are_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "k.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=words) as error:
        read_points([path])
    assert "6 numbers" in str(error.value)


def test_a_missing_table_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is missing"):
        read_points([tmp_path / "none.csv"])


def test_points_that_are_no_text_are_told_with_their_file(tmp_path: Path) -> None:
    path = tmp_path / "case_001.csv"
    path.write_bytes(b"1,2,3,4,5,\xff\n")
    with pytest.raises(InputError, match=r"case_001\.csv: is not a table of points"):
        read_points([path])
