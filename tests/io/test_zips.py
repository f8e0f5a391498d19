import io
import struct
import zipfile
from pathlib import Path

import pytest

from l2reg.io import zips
from l2reg.io.zips import check_members, open_zip, read_member


def archive(method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as writer:
        writer.writestr("a.txt", bytes(range(256)) * 9)
    return file.getvalue()


def replace(content: bytes, offset: int, value: bytes) -> bytes:
    return content[:offset] + value + content[offset + len(value) :]


def test_a_sound_member_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(archive())
    check_members(path)
    with open_zip(path) as opened:
        assert read_member(opened, "a.txt") == bytes(range(256)) * 9


DIRECTORY = archive().index(b"PK\x01\x02")


@pytest.mark.parametrize(
    "content",
    [
        replace(archive(zipfile.ZIP_STORED), 60, b"\x00\x00\x00"),  # a checksum tells
        replace(archive(), 50, b"\xff" * 8),  # zlib tells
        replace(archive(), DIRECTORY + 8, b"\x01"),  # encrypted
        replace(archive(), DIRECTORY + 10, struct.pack("<H", 99)),  # unknown compression
        replace(archive(), DIRECTORY + 16, b"\x00\x00\x00\x00"),
        replace(archive(), DIRECTORY, b"XX"),
        archive()[:-40],
        b"",
    ],
)
def test_damage_of_any_kind_is_one_kind_of_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    with pytest.raises(zipfile.BadZipFile), open_zip(io.BytesIO(content)) as opened:
        read_member(opened, "a.txt")
    with pytest.raises(zipfile.BadZipFile):
        check_members(path)


def test_a_name_that_is_no_text_is_an_error_too() -> None:
    content = replace(archive(), DIRECTORY + 8, struct.pack("<H", 0x800))
    with pytest.raises(zipfile.BadZipFile):
        open_zip(io.BytesIO(replace(content, DIRECTORY + 46, b"\xff\xff")))


def test_a_huge_member_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zips, "MAX_MEMBER", 2303)
    with (
        open_zip(io.BytesIO(archive())) as opened,
        pytest.raises(zipfile.BadZipFile, match="2304 bytes"),
    ):
        read_member(opened, "a.txt")


def test_a_missing_member_is_an_error() -> None:
    with (
        open_zip(io.BytesIO(archive())) as opened,
        pytest.raises(zipfile.BadZipFile, match=r"b\.t"),
    ):
        read_member(opened, "b.txt")
