import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from l2reg.checkpoints import storage
from l2reg.problems import InputError

STATE = {
    "step": 3,
    "model": {"w": torch.ones(2)},
    "config": {"labels": {1: "liver"}, "x": [1, None]},
}


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    storage.save(tmp_path / "last.pt", STATE)
    loaded = storage.load(tmp_path / "last.pt")
    assert loaded["config"] == STATE["config"]
    assert torch.equal(loaded["model"]["w"], torch.ones(2))
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def test_a_missing_checkpoint_is_said_as_such(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"(?s)is missing.*such as runs/lung_unet"):
        storage.load(tmp_path / "none.pt")


@pytest.mark.parametrize("kept", [0, 20, 0.5])
def test_a_damaged_checkpoint_is_said_as_such(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "last.pt"
    storage.save(path, STATE)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    with pytest.raises(InputError, match="is damaged or is not a checkpoint"):
        storage.load(path)


@pytest.mark.parametrize("content", [b"hello", b"\x1f\x8b\x08", b"\x80\x02.", b"step: 3\n" * 99])
def test_a_file_of_another_kind_is_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "notes.txt").write_bytes(content)
    with pytest.raises(InputError, match=r"notes\.txt: is damaged or is not a checkpoint"):
        storage.load(tmp_path / "notes.txt")


def test_another_format_is_refused(tmp_path: Path) -> None:
    torch.save({"format": 2}, tmp_path / "a.pt")
    torch.save([1, 2], tmp_path / "b.pt")
    for name in ("a.pt", "b.pt"):
        with pytest.raises(
            InputError,
            match=r"(?s)has another format.*format 3.*another field.*written by l2reg unknown",
        ):
            storage.load(tmp_path / name)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("owned",)


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    torch.save({"format": storage.FORMAT, "model": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(InputError, match="is damaged or is not a checkpoint"):
        storage.load(tmp_path / "evil.pt")
    assert not Path("owned").exists()


def test_a_full_disk_is_said_as_such_and_keeps_the_previous_checkpoint(
    tmp_path: Path, full_disk: Callable[[str], None]
) -> None:
    path = tmp_path / "last.pt"
    storage.save(path, STATE)
    full_disk("last.pt")
    with pytest.raises(InputError, match=r"last\.pt: cannot be written, the disk is full"):
        storage.save(path, {"step": 4, "model": torch.zeros(300_000)})
    assert storage.load(path)["step"] == 3
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_a_flipped_bit_of_the_weights_is_told(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    storage.save(path, {"model": {"a": torch.full((1000,), 1.5)}})
    content = bytearray(path.read_bytes())
    content[content.index(torch.full((9,), 1.5).numpy().tobytes()) + 1000] ^= 1
    path.write_bytes(content)
    weights = torch.load(path, weights_only=True)["model"]["a"]  # noqa: TID251
    assert (weights != 1.5).sum() == 1  # torch takes it
    with pytest.raises(InputError, match=r"last\.pt: is damaged"):
        storage.load(path)


def test_a_zip_of_other_content_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    for member in ("archive/data.pkl", "a/b/c"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(member, b"\x80\x02X\xff\xff\xff\xff")
        with pytest.raises(InputError, match=r"last\.pt: is damaged or is not a checkpoint"):
            storage.load(path)


def test_a_zip_whose_members_start_before_the_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", bytes(100))
    content = bytearray(path.read_bytes())
    place = content.rindex(b"PK\x05\x06") + 16  # where the directory starts
    content[place : place + 4] = struct.pack("<I", 10_000)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"last\.pt: is damaged"):
        storage.load(path)
