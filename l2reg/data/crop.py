"""Random crops of training pairs: one box, cut out of both scans and all that belongs to them."""

from collections.abc import Sequence
from typing import cast

import numpy as np
from torch import Tensor

from l2reg.batch import Batch

_VOLUMES = ("fixed", "moving", "fixed_mask", "moving_mask", "overlap", "fixed_labels",
            "moving_labels")  # fmt: skip
_POINTS = ("fixed_points", "moving_points")


def random_crop(sample: Batch, shape: Sequence[int], rng: np.random.Generator) -> Batch:
    """Return a random box of a pair, the same for both scans (Estienne et al. 2021).

    Keypoints of which either end lies outside the box get the weight 0. The prealignment is left
    out, as it belongs to the whole scans.

    Args:
        sample: One pair.
        shape: Size of the box in voxels of the working grid; an axis that is shorter stays whole.
        rng: Source of the corner of the box; all corners that fit are equally likely.
    """
    sizes = sample["fixed"].shape[2:]
    box = [min(size, wanted) for size, wanted in zip(sizes, shape, strict=True)]
    corner = [int(rng.integers(n - m + 1)) for n, m in zip(sizes, box, strict=True)]
    i, j, k = (slice(start, start + n) for start, n in zip(corner, box, strict=True))
    cropped: dict[str, Tensor] = {}
    for name, value in cast(dict[str, Tensor], sample).items():
        if name in _VOLUMES:
            cropped[name] = value[..., i, j, k]
        elif name in _POINTS:
            cropped[name] = value - value.new_tensor(corner)
        elif name != "prealign":
            cropped[name] = value
    last = sample["fixed_points"].new_tensor(box) - 1
    for name in _POINTS:
        inside = ((cropped[name] >= 0) & (cropped[name] <= last)).all(dim=2)
        cropped["point_weights"] = cropped["point_weights"] * inside
    return cast(Batch, cropped)


def check_crop(shape: object) -> None:
    """Raise ``ValueError`` unless ``shape`` is ``None`` or three sizes of at least 2 voxels."""
    sizes = shape if isinstance(shape, Sequence) else ()
    valid = len(sizes) == 3 and all(type(size) is int and size >= 2 for size in sizes)
    if shape is not None and not valid:
        raise ValueError(f"data.crop must be null or three sizes of 2 voxels or more, got {shape}")
