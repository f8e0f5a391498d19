"""Data of the viewer: a registered pair as small pictures and numbers for an HTML page."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Shaped, UInt8
from PIL import Image

from l2reg.evaluation.volume_change import determinants
from l2reg.reporting.registered_pair import RegisteredPair, Volume
from l2reg.shapes import Shape3

Reduced = Shaped[np.ndarray, "ri rj rk"]

RANGE = 1.5  # of the colours of the volume change: log2 of a factor of 2.8
MAX_LABELS = 255  # those that a picture of bytes can tell apart
_MAX_VOXELS = 1_000_000
_GRID_LINES = 24  # along the longest side
_FIELD_UNIT = 0.01  # voxels per step of a packed displacement
_QUALITY = 80  # of JPEG
_TO_RIGHT = {"axial": "L", "coronal": "L", "sagittal": "P"}  # as radiologists look at them
_DOWN = {"axial": "P", "coronal": "I", "sagittal": "I"}
_ACROSS = {"axial": "SI", "coronal": "AP", "sagittal": "LR"}
_OPPOSITE = dict(zip("LRAPSI", "RLPAIS", strict=True))


@dataclass(frozen=True)
class ViewerData:
    """What the page holds of a pair.

    Attributes:
        layers: Volumes as ``data:`` addresses of pictures by name: ``fixed``, ``moving``,
            ``warped``, ``volume`` and, if there are labels, ``fixed_labels``, ``warped_labels``.
        view: What ``viewer.js`` needs to know besides, fit for JSON.
        folds: Number of voxels of the viewer in which the deformation folds.
        n_labels: Number of labels of both scans together; the first 255 of them are drawn.
    """

    layers: Mapping[str, str]
    view: Mapping[str, Any]
    folds: int
    n_labels: int


def viewer_data(pair: RegisteredPair) -> ViewerData:
    """Return a pair at a resolution of at most a million voxels.

    Images are means of blocks of voxels, labels their middle voxels. A block in which any voxel
    folds counts as folded.
    """
    steps = _steps(pair.fixed.shape, pair.spacing_mm)
    images = {name: _bytes(_block_mean(getattr(pair, name), steps)) for name in _IMAGES}
    i, j, k = images["fixed"].shape
    shape = (i, j, k)
    volume, folds = _volume_change(pair.disp, steps)
    layers = {name: _mosaic(image, "jpeg") for name, image in images.items()}
    layers["volume"] = _mosaic(volume, "png")
    numbers = np.union1d(pair.fixed_labels, pair.warped_labels)
    numbers = numbers[numbers != 0]
    n_labels, numbers = len(numbers), numbers[:MAX_LABELS]
    if numbers.size:
        for name in ("fixed_labels", "warped_labels"):
            middle = _middle(getattr(pair, name), steps)
            index = np.searchsorted(numbers, middle).clip(max=numbers.size - 1)
            layers[name] = _mosaic(np.where(numbers[index] == middle, index + 1, 0), "png")
    view = {
        "shape": shape,
        "columns": _columns(shape),
        "spacing": [n * mm for n, mm in zip(steps, pair.spacing_mm, strict=True)],
        "planes": planes(pair.orientation),
        "labels": [pair.label_names.get(int(n), f"label {n}") for n in numbers],
        "landmarks": _landmarks(pair, steps),
        "grid": _grid(pair.disp, steps, shape),
        "range": RANGE,
    }
    return ViewerData(layers, view, folds, n_labels)


_IMAGES = ("fixed", "moving", "warped")


def planes(orientation: str | None) -> list[dict[str, Any]]:
    """Return how the axial, the coronal and the sagittal plane are drawn.

    Args:
        orientation: Where each array axis leads, such as ``LPS``; as this, without letters at the
            edges, if it is unknown.
    """
    axes = orientation or "LPS"
    drawn = []
    for name, across in _ACROSS.items():
        x, y = (
            next(axis for axis, letter in enumerate(axes) if letter in (wanted, _OPPOSITE[wanted]))
            for wanted in (_TO_RIGHT[name], _DOWN[name])
        )
        right, down = _TO_RIGHT[name], _DOWN[name]
        ends = [_OPPOSITE[right], right, _OPPOSITE[down], down]
        drawn.append(
            {
                "name": name,
                "across": next(axis for axis, letter in enumerate(axes) if letter in across),
                "x": x,
                "flipX": axes[x] != right,
                "y": y,
                "flipY": axes[y] != down,
                "ends": ends if orientation else [""] * 4,
            }
        )
    return drawn


def _steps(shape: tuple[int, ...], spacing_mm: tuple[float, float, float]) -> Shape3:
    """Return the sides of the blocks of voxels that become one; finer axes become coarser first."""
    steps = [1, 1, 1]
    while np.prod([-(-n // step) for n, step in zip(shape, steps, strict=True)]) > _MAX_VOXELS:
        finest = min(range(3), key=lambda a: (steps[a] * spacing_mm[a], -shape[a] / steps[a]))
        steps[finest] += 1
    return (steps[0], steps[1], steps[2])


def _blocks(volume: Volume, steps: Shape3) -> Shaped[np.ndarray, "ri rj rk block"]:
    """Return the blocks of a volume; those at the ends are filled up with its last slices."""
    pad = [(0, -size % step) for size, step in zip(volume.shape, steps, strict=True)]
    padded = np.pad(volume, pad, mode="edge")
    (i, di), (j, dj), (k, dk) = (
        (size // step, step) for size, step in zip(padded.shape, steps, strict=True)
    )
    blocks = padded.reshape(i, di, j, dj, k, dk).transpose(0, 2, 4, 1, 3, 5)
    return blocks.reshape(i, j, k, di * dj * dk)


def _block_mean(volume: Volume, steps: Shape3) -> Reduced:
    mean: Reduced = _blocks(volume, steps).mean(axis=-1)
    return mean


def _middle(volume: Volume, steps: Shape3) -> Reduced:
    di, dj, dk = steps
    middle: Reduced = _blocks(volume, steps)[..., (di // 2 * dj + dj // 2) * dk + dk // 2]
    return middle


def _bytes(image: Volume) -> UInt8[np.ndarray, "i j k"]:
    """Return intensities in [0, 1] as 0 to 255."""
    rounded: UInt8[np.ndarray, "i j k"] = np.clip(np.rint(255 * image), 0, 255).astype(np.uint8)
    return rounded


def _volume_change(
    disp: Float[np.ndarray, "3 i j k"], steps: Shape3
) -> tuple[UInt8[np.ndarray, "ri rj rk"], int]:
    """Return the determinants as bytes, 0 for folds, and the number of folds."""
    blocks = _blocks(np.pad(determinants(disp), 1, mode="edge"), steps)
    change = np.log2(np.clip(blocks.mean(axis=-1), 1e-3, 1e3)) / RANGE
    packed = np.clip(np.rint(127 * change) + 128, 1, 255).astype(np.uint8)
    folded = blocks.min(axis=-1) <= 0
    packed[folded] = 0
    return packed, int(folded.sum())


def _landmarks(pair: RegisteredPair, steps: Shape3) -> list[list[float]]:
    """Return positions and residuals in voxels of the viewer, and errors in mm, row by row."""
    if pair.landmarks is None:
        return []
    positions = (pair.landmarks.positions - (np.array(steps) - 1) / 2) / steps
    residuals = pair.landmarks.residuals / steps
    rows = np.column_stack([positions, residuals, pair.landmarks.errors_mm])
    rounded: list[list[float]] = np.round(rows, 2).tolist()
    return rounded


def _grid(disp: Float[np.ndarray, "3 i j k"], steps: Shape3, shape: Shape3) -> dict[str, Any]:
    """Return the field at the nodes of a coarse grid, in voxels of the viewer."""
    step = -(-max(shape) // _GRID_LINES)
    nodes = [np.arange(0, size, step) for size in shape]
    near = [
        np.minimum(n * each + each // 2, size - 1)
        for n, each, size in zip(nodes, steps, disp.shape[1:], strict=True)
    ]
    coarse = disp[:, near[0]][:, :, near[1]][:, :, :, near[2]] / np.array(steps).reshape(3, 1, 1, 1)
    packed = np.clip(np.rint(coarse / _FIELD_UNIT), -32767, 32767).astype("<i2")
    return {
        "shape": [len(n) for n in nodes],
        "step": step,
        "scale": _FIELD_UNIT,
        "disp": base64.b64encode(packed.transpose(0, 3, 2, 1).tobytes()).decode("ascii"),
    }


def _columns(shape: Shape3) -> int:
    """Return the number of slices in a row of a mosaic that is about square."""
    i, j, k = shape
    return int(np.clip(round((k * j / i) ** 0.5), 1, k))


def _mosaic(volume: Volume, form: Literal["jpeg", "png"]) -> str:
    """Return the slices of a volume of bytes, side by side in one picture, as an address."""
    i, j, k = volume.shape
    columns = _columns((i, j, k))
    rows = -(-k // columns)
    tiles = np.zeros((rows * columns, j, i), dtype=np.uint8)
    tiles[:k] = volume.transpose(2, 1, 0)
    by_rows = tiles.reshape(rows, columns, j, i).transpose(0, 2, 1, 3)
    picture = by_rows.reshape(rows * j, columns * i)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format=form, quality=_QUALITY, optimize=True)
    return f"data:image/{form};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
