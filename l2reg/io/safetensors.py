"""Safetensors: named arrays in a file that cannot contain code, with a checksum of their bytes.

The format (github.com/huggingface/safetensors): the length of a header as 8 bytes, the header in
JSON with type, shape and place of every array, and the bytes of the arrays.
"""

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from l2reg.io.files import atomic_write, strict_json
from l2reg.problems import InputError, Problem

_TYPES: Mapping[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2")}
_CODES = {dtype: code for code, dtype in _TYPES.items()}
_MAX_SIZE = 2**30  # bytes of a file
_METADATA, _CHECKSUM = "__metadata__", "sha256"


def write_safetensors(
    path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Write named arrays, whole or not at all.

    Args:
        path: The file.
        arrays: Arrays of float32 or float16, by name.
        metadata: Further text by key; a SHA-256 of all that the file holds is added as ``sha256``.
    """
    header: dict[str, object] = {}
    content = b""
    for name, array in arrays.items():
        start = len(content)
        content += np.ascontiguousarray(array).tobytes()
        header[name] = {
            "dtype": _CODES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [start, len(content)],
        }
    header[_METADATA] = dict(metadata)
    header[_METADATA] = {**metadata, _CHECKSUM: _checksum(header, content)}
    text = strict_json(header).encode()
    text += b" " * (-len(text) % 8)
    with atomic_write(path) as temporary:
        temporary.write_bytes(struct.pack("<Q", len(text)) + text + content)


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the arrays of a file by name, in float32, and its metadata.

    Raises:
        InputError: If the file is missing, damaged, or holds other types than float32 and float16.
    """
    try:
        if path.stat().st_size > _MAX_SIZE:
            raise ValueError(f"more than {_MAX_SIZE} bytes")
        return _parse(path.read_bytes())
    except FileNotFoundError:
        found = "no such file"
    except (ValueError, TypeError, KeyError, struct.error, RecursionError) as error:
        found = f"{type(error).__name__}: {str(error)[:120]}"
    raise InputError(
        Problem(
            where=str(path),
            what="cannot be read as safetensors",
            expected="named arrays of float32 or float16, with their checksum if it has one",
            found=found,
            remedy="copy or download the file again",
        )
    )


def _parse(content: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    if len(content) < 8 + length or not isinstance(header, dict):
        raise ValueError("no header")
    metadata, block = header.get(_METADATA, {}), content[8 + length :]
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError("metadata that are no text")
    expected = metadata.pop(_CHECKSUM, None)
    if expected is not None and expected != _checksum(header, block):
        raise ValueError("content that does not have its checksum")
    header.pop(_METADATA, None)
    return {name: _array(block, **entry) for name, entry in header.items()}, metadata


def _checksum(header: Mapping[str, object], block: bytes) -> str:
    """Return the SHA-256 of a header, without its checksum, and of the bytes of the arrays."""
    return hashlib.sha256(json.dumps(header, sort_keys=True).encode() + block).hexdigest()


def _array(
    block: bytes, dtype: str, shape: Sequence[int], data_offsets: Sequence[int]
) -> np.ndarray:
    start, stop = data_offsets
    if not 0 <= start <= stop <= len(block):
        raise ValueError(f"an array at bytes {start} to {stop} of {len(block)}")
    values: np.ndarray = np.frombuffer(block[start:stop], dtype=_TYPES[dtype]).reshape(shape)
    return values.astype(np.float32)
