"""Gather what a picture of a pair shows."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Shaped

from l2reg.data.pairs import Pair, Scan
from l2reg.data.reader import PairReader
from l2reg.evaluation.metrics import warp_labels
from l2reg.geometry.warp import warp
from l2reg.shapes import Spacing
from l2reg.submission.fields import FullField

Volume = Shaped[np.ndarray, "i j k"]


@dataclass(frozen=True)
class RegisteredPair:
    """What a picture of a pair shows; all on one grid.

    Attributes:
        fixed: Target image, in [0, 1].
        moving: Moving image, in [0, 1].
        warped: Moving image looked up through the field.
        disp: The field, in voxels.
        fixed_labels: Segmentation or mask of the fixed scan, outlined in the pictures.
        warped_labels: That of the moving scan, looked up through the field.
        spacing_mm: Size of a voxel along i, j, k; planes are drawn in these proportions.
    """

    fixed: Volume
    moving: Volume
    warped: Volume
    disp: Float[np.ndarray, "3 i j k"]
    fixed_labels: Volume
    warped_labels: Volume
    spacing_mm: Spacing


def registered_pair(pair: Pair, reader: PairReader, disp: FullField) -> RegisteredPair:
    """Return a pair and its field, on the reader's grid.

    Args:
        pair: Read from disk, without prealignment: the field includes it.
        reader: Of the grid that ``disp`` lives on.
        disp: The field, in voxels of that grid.
    """
    fixed, moving = reader.image(pair.fixed), reader.image(pair.moving)
    i_mm, j_mm, k_mm = reader.spacing_mm
    labels = [_outlined(scan, reader) for scan in (pair.fixed, pair.moving)]
    return RegisteredPair(
        fixed=fixed[0, 0].numpy(),
        moving=moving[0, 0].numpy(),
        warped=warp(moving, torch.from_numpy(disp)[None])[0, 0].numpy(),
        disp=disp,
        fixed_labels=labels[0],
        warped_labels=warp_labels(labels[1], disp),
        spacing_mm=(i_mm, j_mm, k_mm),
    )


def _outlined(scan: Scan, reader: PairReader) -> np.ndarray:
    """Return a scan's labels, else its mask, else zeros."""
    if scan.labels is None and scan.mask is not None:
        return reader.mask(scan)[0, 0].numpy().astype(np.int16)
    return reader.labels(scan)[0, 0].numpy()
