from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from l2reg.problems import InputError
from l2reg.registration.initial_file import read_initial
from l2reg.registration.scan_files import ScanFiles, as_scan_files
from l2reg.registration.transform_scans import TransformScans
from l2reg.registration.transform_writer import write_transform
from l2reg.transforms.world_transform import AffineMap, DisplacementMap, WorldTransform


@pytest.fixture
def files(oblique_scans: TransformScans, own_folder: None) -> tuple[ScanFiles, ScanFiles]:
    for name, grid in zip(("fixed", "moving"), oblique_scans.both(""), strict=True):
        image = nib.Nifti1Image(np.zeros(grid.shape, np.int16), grid.place.affine)
        nib.save(image, f"{name}.nii.gz")
    return as_scan_files("fixed.nii.gz"), as_scan_files("moving.nii.gz")


@pytest.mark.parametrize("name", ["itk:a.mat", "greedy:a.mat", "fsl:a.mat", "itk:a.h5"])
def test_every_form_starts_at_the_same_voxels(
    oblique_scans: TransformScans,
    files: tuple[ScanFiles, ScanFiles],
    affine_map: AffineMap,
    name: str,
) -> None:
    """Fixed voxels go to the world by one header, are moved, and come back by the other."""
    form, _, file = name.partition(":")
    write_transform(Path(file), WorldTransform((affine_map,)), form, oblique_scans)
    matrix = read_initial(name, files, "auto")[0].numpy()
    fixed, moving = oblique_scans.both("")
    voxels = np.array([[0, 0, 0], [3, 8, 2], [13, 17, 15.0]])
    world = nib.affines.apply_affine(affine_map.matrix @ fixed.place.affine, voxels)
    expected = nib.affines.apply_affine(np.linalg.inv(moving.place.affine), world)
    np.testing.assert_allclose(voxels @ matrix[:, :3].T + matrix[:, 3], expected, atol=1e-3)


def test_fields_and_a_search_besides_are_refused(
    oblique_scans: TransformScans,
    files: tuple[ScanFiles, ScanFiles],
    smooth_field: DisplacementMap,
) -> None:
    write_transform(Path("field.nii.gz"), WorldTransform((smooth_field,)), "itk", oblique_scans)
    with pytest.raises(InputError, match="is no affine map to start from"):
        read_initial("field.nii.gz", files, "auto")
    with pytest.raises(InputError, match="--prealign rigid: searches for a map, but one is given"):
        read_initial("field.nii.gz", files, "rigid")
