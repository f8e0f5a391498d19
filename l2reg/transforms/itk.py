"""ITK displacement fields, as ANTs, greedy and SimpleITK read them: LPS millimetres in NIfTI."""

from pathlib import Path

import numpy as np

from l2reg.io.volumes import VECTOR, write_volume
from l2reg.transforms.vector_volumes import VectorVolume
from l2reg.transforms.world_transform import DisplacementMap, WorldTransform

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # ITK's axes point left, posterior and superior

_SIGNS = RAS_TO_LPS.diagonal()[:3].reshape(3, 1, 1, 1)


def write_warp(path: Path, field: DisplacementMap) -> None:
    """Write a field as a displacement transform of ITK, from fixed to moving positions.

    ``antsApplyTransforms``, ``greedy -r`` and SimpleITK's ``DisplacementFieldTransform`` read the
    file.

    Args:
        path: File to write, ``.nii.gz``.
        field: The field.
    """
    vectors = np.empty((*field.disp_mm.shape[1:], 1, 3), np.float32, order="F")  # as in the file
    for axis, sign in enumerate(_SIGNS.flat):
        np.multiply(field.disp_mm[axis], sign, out=vectors[..., 0, axis], casting="same_kind")
    write_volume(path, vectors, field.place, intent=VECTOR)


def warp_transform(volume: VectorVolume) -> WorldTransform:
    """Return the transform that a displacement field of ITK, ANTs or greedy describes."""
    return WorldTransform((DisplacementMap(_SIGNS * volume.vectors, volume.place),))
