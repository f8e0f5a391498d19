"""FreeSurfer's linear transform arrays (``.lta``)."""

import re
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from l2reg.problems import InputError, Problem
from l2reg.transforms.matrices import check_matrix
from l2reg.transforms.world_transform import AffineMap, WorldTransform
from l2reg.wording import quantity

_VOXELS, _RAS = 0, 1  # LINEAR_VOX_TO_VOX, LINEAR_RAS_TO_RAS
_AXES = ("xras", "yras", "zras")


def read_lta(path: Path) -> WorldTransform:
    """Read the map from ``src`` (moving) to ``dst`` (fixed), from voxels to voxels or RAS to RAS.

    Raises:
        InputError: If the file has another type, several transforms, or lacks what its type needs.
    """
    try:
        text = path.read_text(encoding="utf-8")
        kind, count = (int(_numbers(text, key, 1)[0]) for key in ("type", "nxforms"))
        if kind not in (_VOXELS, _RAS) or count != 1:
            raise ValueError(f"type {kind} and {quantity(count, 'transform')}")
        to_fixed = _matrix(text)
        if kind == _VOXELS:
            source, target = (_voxels_to_ras(text, name) for name in ("src", "dst"))
            to_fixed = target @ to_fixed @ np.linalg.inv(source)
    except (ValueError, np.linalg.LinAlgError) as error:
        raise InputError(
            Problem(
                where=str(path),
                what="cannot be read as a transform of FreeSurfer",
                expected="one linear transform, type 0 (voxels) or 1 (RAS), and both volumes",
                found=str(error),
                remedy="convert it: lta_convert --inlta FILE --outlta NEW.lta",
            )
        ) from error
    check_matrix(path, to_fixed)
    return WorldTransform((AffineMap(np.linalg.inv(to_fixed)),))


def _numbers(text: str, key: str, count: int) -> list[float]:
    """Return the first numbers of the line ``key = ...``."""
    match = re.search(rf"^{key}\s*=\s*([^#\n]*)", text, re.MULTILINE)
    if match is None:
        raise ValueError(f"no line {key!r}")
    numbers = [float(word) for word in match[1].split()]
    if len(numbers) < count:
        raise ValueError(f"{quantity(len(numbers), 'number')} in the line {key!r}")
    return numbers[:count]


def _matrix(text: str) -> Float64[np.ndarray, "4 4"]:
    """Return the four rows after the line ``1 4 4``."""
    match = re.search(r"^1 4 4\s*\n((?:[^\n]*\n){4})", text, re.MULTILINE)
    if match is None:
        raise ValueError("no matrix after a line '1 4 4'")
    return np.array([float(word) for word in match[1].split()]).reshape(4, 4)


def _voxels_to_ras(text: str, volume: str) -> Float64[np.ndarray, "4 4"]:
    """Return the affine of a volume; ``cras`` is the position of its middle voxel."""
    start = text.find(f"{volume} volume info")
    if start < 0 or not _numbers(text[start:], "valid", 1)[0]:
        raise ValueError(f"no valid {volume!r} volume")
    block = text[start:]
    size, spacing = (np.array(_numbers(block, key, 3)) for key in ("volume", "voxelsize"))
    affine = np.eye(4)
    affine[:3, :3] = np.array([_numbers(block, key, 3) for key in _AXES]).T * spacing
    affine[:3, 3] = np.array(_numbers(block, "cras", 3)) - affine[:3, :3] @ (size / 2)
    return affine
