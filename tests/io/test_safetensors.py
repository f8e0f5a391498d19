import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from l2reg.io.safetensors import read_safetensors, write_safetensors
from l2reg.problems import InputError

PATH = Path("weights.safetensors")


def write(random: np.random.Generator) -> dict[str, np.ndarray]:
    arrays = {
        "conv.weight": random.normal(size=(3, 2, 5)).astype(np.float16),
        "bias": random.normal(size=4).astype(np.float32),
    }
    write_safetensors(PATH, arrays, {"model": "tiny"})
    return arrays


def test_arrays_and_metadata_are_read_again(random: np.random.Generator) -> None:
    arrays = write(random)
    found, metadata = read_safetensors(PATH)
    assert metadata["model"] == "tiny"
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], array.astype(np.float32))


def test_the_bytes_are_those_of_the_format(random: np.random.Generator) -> None:
    arrays = write(random)
    content = PATH.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    assert length % 8 == 0
    assert header["bias"] == {"dtype": "F32", "shape": [4], "data_offsets": [60, 76]}
    assert content[8 + length + 60 :] == arrays["bias"].tobytes()


def cut(content: bytes) -> bytes:
    return content[:-3]


def flip(content: bytes) -> bytes:
    return content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]


def other_type(content: bytes) -> bytes:
    return content.replace(b"F32", b"I32")


def far_away(content: bytes) -> bytes:
    return content.replace(b"[60,76]", b"[60,99]").replace(b"[60, 76]", b"[60, 99]")


def huge_header(content: bytes) -> bytes:
    return struct.pack("<Q", 2**62) + content[8:]


def other_name(content: bytes) -> bytes:
    return content.replace(b"bias", b"bios")


def no_dictionary(content: bytes) -> bytes:
    return struct.pack("<Q", 2) + b"[]" + content[8:]


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        flip,
        other_type,
        far_away,
        huge_header,
        other_name,
        no_dictionary,
        lambda _: b"",
        lambda c: c[:40],
    ],
)
def test_a_damaged_file_is_named(
    damage: Callable[[bytes], bytes], random: np.random.Generator
) -> None:
    write(random)
    PATH.write_bytes(damage(PATH.read_bytes()))
    with pytest.raises(InputError, match=r"(?s)weights.safetensors: cannot be read as safetensors"):
        read_safetensors(PATH)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(InputError, match="no such file"):
        read_safetensors(PATH)
