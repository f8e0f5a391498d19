from pathlib import Path

import nibabel as nib
import numpy as np

from l2reg.transforms.spm import mapping_transform, write_mapping
from l2reg.transforms.vector_volumes import read_vectors
from l2reg.transforms.world_transform import DisplacementMap


def test_every_voxel_holds_its_moving_position(
    tmp_path: Path, smooth_field: DisplacementMap
) -> None:
    write_mapping(tmp_path / "y_scan.nii", smooth_field)
    image = nib.load(tmp_path / "y_scan.nii")
    assert image.shape == (*smooth_field.grid.shape, 1, 3)
    assert image.header.get_intent() == ("vector", (), "Mapping")
    for voxel in [(0, 0, 0), (3, 11, 5), (13, 17, 15)]:
        expected = (image.affine @ [*voxel, 1])[:3] + smooth_field.disp_mm[(slice(None), *voxel)]
        np.testing.assert_allclose(image.dataobj[voxel][0], expected, atol=1e-4)
    (again,) = mapping_transform(read_vectors(tmp_path / "y_scan.nii")).steps
    assert isinstance(again, DisplacementMap)
    np.testing.assert_allclose(again.disp_mm, smooth_field.disp_mm, atol=1e-5)
