"""Registered pair: the images, labels, landmarks and field of a pair that a report shows."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import nibabel as nib
import numpy as np
import torch
from jaxtyping import Float, Shaped

from l2reg.data.pairs import Pair, PointFiles, Scan
from l2reg.data.reader import PairReader
from l2reg.evaluation.metrics import sample_cubic, tre_mm, warp_labels
from l2reg.geometry.warp import warp_with_fill
from l2reg.io.volumes import read_placement
from l2reg.problems import InputError
from l2reg.shapes import Spacing
from l2reg.submission.fields import FullField

Affine4 = Float[np.ndarray, "4 4"]
Volume = Shaped[np.ndarray, "i j k"]


@dataclass(frozen=True)
class Landmarks:
    """Landmarks of a registered pair.

    Attributes:
        positions: Landmarks of the fixed scan, in voxels.
        residuals: From where the transform leads to the moving landmarks, in voxels.
        errors_mm: Target registration errors.
    """

    positions: Float[np.ndarray, "n 3"]
    residuals: Float[np.ndarray, "n 3"]
    errors_mm: Float[np.ndarray, " n"]


@dataclass(frozen=True)
class RegisteredPair:
    """Images, labels, landmarks and field of a pair, all on one grid.

    Attributes:
        fixed: Fixed image, in [0, 1].
        moving: Moving image, in [0, 1].
        warped: Moving image warped by the field, in [0, 1]; 0, as air has, outside of it.
        disp: Field, in voxels.
        fixed_labels: Segmentation or mask of the fixed scan, drawn as outlines.
        warped_labels: Segmentation or mask of the moving scan, warped by the field.
        spacing_mm: Voxel size along i, j, k; figures are drawn in these proportions.
        landmarks: Landmarks, if there are any.
        label_names: Names of labels, where they have one.
        orientation: Where each array axis leads by the header of the fixed scan, such as ``LPS``;
            ``None`` if it places the scan nowhere.
    """

    fixed: Volume
    moving: Volume
    warped: Volume
    disp: Float[np.ndarray, "3 i j k"]
    fixed_labels: Volume
    warped_labels: Volume
    spacing_mm: Spacing
    landmarks: Landmarks | None = None
    label_names: Mapping[int, str] = field(default_factory=dict)
    orientation: str | None = None


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
        landmarks=None if pair.landmarks is None else _landmarks(pair.landmarks, reader, disp),
        label_names=reader.task.labels,
        orientation=_orientation(pair.fixed),
    )


def orientation(affine: Affine4) -> str:
    """Return where each array axis leads, such as ``LPS``; oblique axes by their main direction.

    Args:
        affine: From voxels to RAS mm.
    """
    return "".join(str(letter) for letter in nib.aff2axcodes(affine))


def _orientation(scan: Scan) -> str | None:
    try:
        return orientation(read_placement(scan.image).affine)
    except InputError:  # data sets are registered by voxels, whatever their headers say
        return None


def _landmarks(files: PointFiles, reader: PairReader, disp: FullField) -> Landmarks:
    fixed, moving = files.read()
    moved = fixed + np.stack([sample_cubic(disp, point) for point in fixed])
    spacing_mm = reader.task.spacing_mm
    return Landmarks(fixed, moving - moved, tre_mm(disp, fixed, moving, spacing_mm))


def _labels_or_mask(scan: Scan, reader: PairReader) -> np.ndarray:
    """Return the labels of a scan, its mask if it has no labels, or zeros if it has neither."""
    if scan.labels is None and scan.mask is not None:
        return reader.mask(scan)[0, 0].numpy().astype(np.int16)
    return reader.labels(scan)[0, 0].numpy()
