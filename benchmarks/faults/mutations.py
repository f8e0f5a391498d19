"""Mutations of files: of bytes, of the values in JSON, YAML and CSV, of headers and of zips."""

import gzip
import io
import itertools
import json
import random
import struct
import zipfile
from collections.abc import Callable
from typing import Any

Mutation = Callable[[bytes, random.Random], bytes]

_LARGE = (0, 1, -1, 127, -128, 32767, -32768, 2**31 - 1, -(2**31))
_REAL = (0.0, -0.0, 1e-45, -1.0, 1e38, float("inf"), float("-inf"), float("nan"))
_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 0.5, 10**6, 10**30, -(2**63), float("nan"), float("inf"), "", "x", "../../x",
    "\x00", "\ud800", "<b>", [], {}, [[]], {"": None}, [1, "a"], "l2reg.cli.main.main",
)  # fmt: skip
_WORDS = (
    b"", b" ", b"nan", b"-inf", b"1e999", b"0x10", b"-1", b"99999999999999999999", b"1,2", b'"',
    b"'", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b"\n\n", b";", b"\t", b"# comment",
    b"../x", b"1_000", b"[" * 3000, b"9" * 5000, b"a" * 200_000,
)  # fmt: skip


def flip_bytes(content: bytes, rng: random.Random) -> bytes:
    """Return the content with one to eight bytes replaced, more often near the start."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        if changed:
            end = min(len(changed), rng.choice((64, 400, len(changed), len(changed))))
            changed[rng.randrange(end)] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
    return bytes(changed)


def cut(content: bytes, rng: random.Random) -> bytes:
    """Return the start of the content."""
    return content[: rng.randrange(len(content) + 1)]


def splice(content: bytes, rng: random.Random) -> bytes:
    """Return the content with a piece removed, repeated, zeroed or appended."""
    if not content:
        return b"\x00"
    begin = rng.randrange(len(content))
    end = min(len(content), begin + rng.choice((1, 4, 64, 4096)))
    piece = content[begin:end]
    changes = (
        content[:begin] + content[end:],
        content[:begin] + piece * rng.choice((2, 50)) + content[end:],
        content[:begin] + bytes(len(piece)) + content[end:],
        content + piece,
        content + rng.randbytes(rng.choice((1, 64))),
    )
    return rng.choice(changes)


BYTES: tuple[Mutation, ...] = (flip_bytes, flip_bytes, cut, splice)


def change_json(content: bytes, rng: random.Random) -> bytes:
    """Return JSON with a value replaced, removed or nested, or a key renamed."""
    if rng.random() < 0.05:
        depth = rng.choice((500, 100_000))
        return b'{"a":' * depth + b"1" + b"}" * depth
    tree = json.loads(content)
    place, key = _random_place(tree, rng)
    if place is None or rng.random() < 0.02:
        return json.dumps(rng.choice(_VALUES)).encode()
    kind = rng.randrange(5)
    if kind == 0:
        del place[key]
    elif kind == 1 and isinstance(place, dict):
        place[rng.choice(("", "x", "../x", key + "2"))] = place.pop(key)
    elif kind == 2:
        place[key] = [place[key]]
    else:
        place[key] = rng.choice(_VALUES)
    return json.dumps(tree).encode()


def _random_place(node: Any, rng: random.Random) -> tuple[Any, Any]:
    """Return a container somewhere in a tree, and one of its keys."""
    keys = list(node) if isinstance(node, dict) else list(range(len(node)))
    if not keys:
        return None, None
    key = rng.choice(keys)
    child = node[key]
    if isinstance(child, dict | list) and child and rng.random() < 0.8:
        return _random_place(child, rng)
    return node, key


def change_words(content: bytes, rng: random.Random) -> bytes:
    """Return a text with a word replaced, or a line removed, repeated or swapped."""
    lines = content.splitlines(keepends=True) or [b""]
    line = rng.randrange(len(lines))
    kind = rng.randrange(6)
    if kind == 0:
        del lines[line]
    elif kind == 1:
        lines.insert(line, lines[rng.randrange(len(lines))])
    else:
        for separator in (b",", b": ", b"=", b" "):
            if separator in lines[line]:
                break
        words = lines[line].split(separator)
        words[rng.randrange(len(words))] = rng.choice(_WORDS)
        lines[line] = separator.join(words)
    return b"".join(lines)


def change_yaml(content: bytes, rng: random.Random) -> bytes:
    """Return YAML with a changed word, or with a tag, an alias or aliases of aliases."""
    kind = rng.randrange(10)
    if kind == 0:
        return b"!!python/object/apply:os.mkdir [owned]\n"
    if kind == 1:
        names = "abcdefghijklmnopqrstuvwxyz"
        lines = ["a: &a [x, x, x, x]"]
        lines += [f"{n}: &{n} [*{m}, *{m}, *{m}, *{m}]" for m, n in itertools.pairwise(names)]
        return content + "\n".join(lines).encode()
    if kind == 2:
        return content + b"a: &a [*a]\n"
    if kind == 3:
        return b"[" * rng.choice((50, 5000))
    return change_words(content, rng)


def change_nifti(content: bytes, rng: random.Random) -> bytes:
    """Return a NIfTI file with one to three values of its header replaced; compressed as before."""
    compressed = content[:2] == b"\x1f\x8b"
    raw = bytearray(gzip.decompress(content) if compressed else content)
    is_second = raw[:4] == struct.pack("<i", 540)
    for _ in range(rng.choice((1, 1, 2, 3))):
        offset, form = rng.choice(_FIELDS_2 if is_second else _FIELDS_1)
        value = rng.choice(_REAL if form in "fd" else _LARGE)
        if form in "hB":
            value = max(-32768, min(32767, int(value))) if form == "h" else int(value) % 256
        if form == "q":
            value = rng.choice((0, -1, 2**40, 2**62, 70000))
        struct.pack_into("<" + form, raw, offset, value)
    if rng.random() < 0.1:  # promises terabytes
        if is_second:
            struct.pack_into("<8q", raw, 16, 3, 40000, 40000, 2000, 1, 1, 1, 1)
        else:
            struct.pack_into("<8h", raw, 40, 3, 32767, 32767, 2000, 1, 1, 1, 1)
    return gzip.compress(bytes(raw), 1, mtime=0) if compressed else bytes(raw)


_FIELDS_1 = [
    *((offset, "i") for offset in (0, 344)),
    *((offset, "h") for offset in range(40, 56, 2)),  # dim
    *((offset, "h") for offset in (68, 70, 72, 252, 254)),
    *((offset, "f") for offset in (*range(76, 120, 4), *range(256, 328, 4))),
    *((offset, "B") for offset in (39, 123, 344, 345, 346)),
]
_FIELDS_2 = [
    *((offset, "h") for offset in (4, 12, 14)),
    *((offset, "q") for offset in (*range(16, 80, 8), 168)),  # dim, vox_offset
    *((offset, "d") for offset in (*range(80, 136, 8), 176, 184, *range(344, 512, 8))),
    *((offset, "i") for offset in (0, 336, 340)),
]


def change_zip(content: bytes, rng: random.Random, inner: Mutation = flip_bytes) -> bytes:
    """Return a zip with a member renamed, doubled, removed, replaced or with mutated content."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    index = rng.randrange(len(members))
    name, data = members[index]
    kind = rng.randrange(8)
    if kind == 0:
        del members[index]
    elif kind == 1:
        members.append((name + "_", data))
    elif kind == 2:
        wrong = ("../../" + name, "/" + name, name.upper(), name + "/", "\x07", "a" * 5000)
        members[index] = (rng.choice(wrong), data)
    elif kind == 3:
        members[index] = (name, rng.choice((b"", rng.randbytes(64), bytes(4096))))
    else:
        members[index] = (name, inner(data, rng))
    file = io.BytesIO()
    method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
    with zipfile.ZipFile(file, "w", method) as archive:
        for member, inside in members:
            archive.writestr(member, inside)
    return file.getvalue()


def change_npy(content: bytes, rng: random.Random) -> bytes:
    """Return an npy file with another dtype, order or shape in its header."""
    length = struct.unpack_from("<H", content, 8)[0]
    header = content[10 : 10 + length].decode("latin1")
    data = content[10 + length :]
    shape = header[header.index("(") : header.index(")") + 1]
    old, new = rng.choice((
        (shape, "(1000000, 1000000)"), (shape, "(-1,)"), (shape, "()"), (shape, "(3, 4, 5)"),
        (shape, "(" * 300), (shape, "(99999999999999999999,)"), (shape, "('a',)"), ("<f", "|O"),
        ("<f2", "<f8"), ("<f", ">f"), ("<f2", "<U9"), ("False", "True"), ("False", "__import__"),
        ("descr", "other"),
    ))  # fmt: skip
    changed = header.rstrip().replace(old, new).encode("latin1") + b"\n"
    return content[:8] + struct.pack("<H", len(changed)) + changed + data


def change_npz(content: bytes, rng: random.Random) -> bytes:
    """Return an npz file with a mutated array or a mutated archive."""
    return change_zip(content, rng, rng.choice((change_npy, change_npy, flip_bytes, cut)))


def change_zip_of_npz(content: bytes, rng: random.Random) -> bytes:
    """Return a submission zip with a mutated field."""
    return change_zip(content, rng, rng.choice((change_npz, flip_bytes, cut)))
