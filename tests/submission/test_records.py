from pathlib import Path

import pytest

from l2reg.problems import InputError
from l2reg.submission.records import (
    NOTES,
    TIMINGS,
    read_notes,
    read_timings,
    write_notes,
    write_timings,
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_timings(tmp_path, {"0001_0001": 1.25, "0002_0002": 0.5})
    assert read_timings(tmp_path / TIMINGS) == {"0001_0001": 1.25, "0002_0002": 0.5}
    write_notes(tmp_path, ["first", "über"])
    assert read_notes(tmp_path / NOTES) == ["first", "über"]


@pytest.mark.parametrize(
    "content", [b"pair,seconds\n1\n", b"a,b\n1,2\n", b"pair,seconds\n\xff,1\n",
                b"pair,seconds\nx,y\n", b'pair,seconds\n"' + b"a" * 200_000 + b'",1\n'],
)  # fmt: skip
def test_runtimes_of_another_form_are_told_with_the_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / TIMINGS).write_bytes(content)
    with pytest.raises(InputError, match=r"timings\.csv: is not a table of runtimes"):
        read_timings(tmp_path / TIMINGS)


def test_notes_that_are_no_text_are_shown_as_far_as_they_are(tmp_path: Path) -> None:
    (tmp_path / NOTES).write_bytes(b"good\xff\nmore\n")
    assert read_notes(tmp_path / NOTES) == ["good\ufffd", "more"]
