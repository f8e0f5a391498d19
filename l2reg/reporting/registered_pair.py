"""Registered pair: the images, labels and field of a pair that its figure shows."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Shaped

from l2reg.data.pairs import Pair, Scan
from l2reg.data.reader import PairReader
from l2reg.evaluation.metrics import warp_labels
from l2reg.geometry.warp import warp_with_fill
from l2reg.shapes import Spacing
from l2reg.submission.fields import FullField

Volume = Shaped[np.ndarray, "i j k"]


@dataclass(frozen=True)
class RegisteredPair:
    """Images, labels and field of a pair, all on one grid.

    Attributes:
        fixed: Fixed image, in [0, 1].
        moving: Moving image, in [0, 1].
        warped: Moving image warped by the field, in [0, 1]; 0, as air has, outside of it.
        disp: Field, in voxels.
        fixed_labels: Segmentation or mask of the fixed scan, drawn as outlines.
        warped_labels: Segmentation or mask of the moving scan, warped by the field.
        spacing_mm: Voxel size along i, j, k; figures are drawn in these proportions.
    """

    fixed: Volume
    moving: Volume
    warped: Volume
    disp: Float[np.ndarray, "3 i j k"]
    fixed_labels: Volume
    warped_labels: Volume
    spacing_mm: Spacing


def registered_pair(pair: Pair, reader: PairReader, disp: FullField) -> RegisteredPair:
    """Read a pair and warp its moving scan by a field, on the grid of the reader.

    Args:
        pair: Pair to read, without prealignment, as the field includes the prealignment.
        reader: Reader of the grid on which ``disp`` is sampled.
        disp: Field, in voxels of this grid.
    """
    fixed, moving = reader.image(pair.fixed), reader.image(pair.moving)
    i_mm, j_mm, k_mm = reader.spacing_mm
    labels = [_labels_or_mask(scan, reader) for scan in (pair.fixed, pair.moving)]
    return RegisteredPair(
        fixed=fixed[0, 0].numpy(),
        moving=moving[0, 0].numpy(),
        warped=warp_with_fill(moving, torch.from_numpy(disp)[None], 0.0)[0, 0].numpy(),
        disp=disp,
        fixed_labels=labels[0],
        warped_labels=warp_labels(labels[1], disp),
        spacing_mm=(i_mm, j_mm, k_mm),
    )


def _labels_or_mask(scan: Scan, reader: PairReader) -> np.ndarray:
    """Return the labels of a scan, its mask if it has no labels, or zeros if it has neither."""
    if scan.labels is None and scan.mask is not None:
        return reader.mask(scan)[0, 0].numpy().astype(np.int16)
    return reader.labels(scan)[0, 0].numpy()
