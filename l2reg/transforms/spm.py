"""SPM deformations (``y_*.nii``): the moving position of every fixed voxel, in RAS mm."""

from pathlib import Path

import numpy as np

from l2reg.io.volumes import Intent, write_volume
from l2reg.transforms.vector_volumes import VectorVolume
from l2reg.transforms.world_transform import DisplacementMap, WorldTransform

MAPPING = Intent(1007, "Mapping")


def mapping_transform(volume: VectorVolume) -> WorldTransform:
    """Return the transform that a deformation of SPM describes."""
    disp_mm = volume.vectors - volume.grid.points().reshape(volume.vectors.shape)
    return WorldTransform((DisplacementMap(disp_mm, volume.place),))


def write_mapping(path: Path, field: DisplacementMap) -> None:
    """Write a field as a deformation of SPM.

    Args:
        path: File to write; SPM itself reads ``.nii``.
        field: The field on the grid of the fixed scan.
    """
    positions = field.grid.points().reshape(field.disp_mm.shape) + field.disp_mm
    array = np.moveaxis(positions, 0, 3)[:, :, :, None].astype(np.float32)
    write_volume(path, array, field.place, intent=MAPPING)
