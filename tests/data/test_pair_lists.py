from pathlib import Path

import pytest

from l2reg.data.pair_lists import read_csv, read_json
from l2reg.problems import InputError


@pytest.mark.parametrize(
    "text", ["fixed, moving\n438, 439\n439, 440\n", "fixed, moving\r\n438, 439\r\n439,440\r\n\r\n"]
)
def test_the_challenges_lists_are_read_blanks_and_line_ends_included(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / "pairs_val.csv"
    path.write_bytes(text.encode())
    assert read_csv(path) == [(438, 439), (439, 440)]


def test_a_byte_order_mark_is_not_part_of_a_list(tmp_path: Path) -> None:
    mark = b"\xef\xbb\xbf"
    path = tmp_path / "pairs_val.csv"
    path.write_bytes(mark + b"fixed, moving\r\n438, 439\r\n")
    assert read_csv(path) == [(438, 439)]
    path = tmp_path / "X_dataset.json"
    pair = b'{"fixed": "x_0395_0000.nii.gz", "moving": "x_0396_0000.nii.gz"}'
    path.write_bytes(mark + b'{"registration_val": [' + pair + b"]}")
    assert read_json(path, "registration_val") == [(395, 396)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("moving, fixed\n1, 2\n", "wrong columns"),
        ("1, 2\n", "wrong columns"),
        ("", "an empty file"),
        ("fixed, moving\n", "lists no pair"),
        ("fixed, moving\n1, 2, 3\n", "line 2: '1, 2, 3'"),
        ("fixed, moving\n1, 2\none, two\n", "line 3: 'one, two'"),
    ],
)
def test_other_lists_are_refused_with_the_line_at_fault(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "pairs_val.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=words) as error:
        read_csv(path)
    assert str(path) in str(error.value)


def test_all_bad_lines_are_shown_at_once(tmp_path: Path) -> None:
    path = tmp_path / "pairs_val.csv"
    path.write_text("fixed, moving\na, 2\n1, 2\n3\n")
    with pytest.raises(InputError) as error:
        read_csv(path)
    assert len(error.value.problems) == 2


def test_a_missing_list_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is missing"):
        read_csv(tmp_path / "none.csv")


def test_pairs_of_a_dataset_json(tmp_path: Path) -> None:
    path = tmp_path / "OASIS_dataset.json"
    path.write_text(
        '{"registration_val": [{"fixed": "./imagesTr/OASIS_0395_0000.nii.gz",'
        ' "moving": "./imagesTr/OASIS_0396_0000.nii.gz"}]}'
    )
    assert read_json(path, "registration_val") == [(395, 396)]
    assert read_json(path, "registration_test") is None


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"registration_val": [{"fixed": "a.nii.gz", "moving": "b"}]}',
             '{"registration_val": [{"fixed": "x_0001_0000.nii.gz"}]}']
)  # fmt: skip
def test_a_broken_json_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "X_dataset.json"
    path.write_text(text)
    with pytest.raises(InputError, match="cannot be read as a list of pairs"):
        read_json(path, "registration_val")


@pytest.mark.parametrize("line", [b"\xff, 1\n", b"1" * 200_000])
def test_a_list_that_is_no_text_is_told_with_its_name(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "pairs_val.csv"
    path.write_bytes(b"fixed, moving\n" + line)
    with pytest.raises(InputError, match=r"pairs_val\.csv: cannot be read as a list of pairs"):
        read_csv(path)


def test_json_that_is_nested_too_deeply_is_told_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "LungCT_dataset.json"
    path.write_text('{"a":' * 100_000)
    with pytest.raises(InputError, match="nested too deeply"):
        read_json(path, "registration_val")
