from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import l2reg
from l2reg.problems import InputError
from l2reg.registration.transform_scans import TransformScans
from l2reg.registration.transform_writer import write_transform
from l2reg.transforms.world_transform import AffineMap, WorldTransform

pytestmark = pytest.mark.parametrize("oblique_scans", [(True, False)], indirect=True, ids=str)


@pytest.fixture
def landmarks(oblique_scans: TransformScans, affine_map: AffineMap, own_folder: None) -> np.ndarray:
    """Points of the fixed scan, in files with their partners by the affine map, in RAS mm."""
    fixed, _ = oblique_scans.both("")
    points: np.ndarray = fixed.points().T[::400]
    moved = nib.affines.apply_affine(affine_map.matrix, points)
    for name, grid, table in zip(
        ("fixed", "moving"), oblique_scans.both(""), (points, moved), strict=True
    ):
        image = nib.Nifti1Image(np.zeros(grid.shape, np.int16), grid.place.affine)
        nib.save(image, f"{name}.nii.gz")
        np.savetxt(f"{name}.csv", table, delimiter=",")
    write_transform(Path("flirt.mat"), WorldTransform((affine_map,)), "fsl", oblique_scans)
    return points


def test_a_transform_is_read_and_evaluated(landmarks: np.ndarray, affine_map: AffineMap) -> None:
    transform = l2reg.read("fsl:flirt.mat", fixed="fixed.nii.gz", moving="moving.nii.gz")
    moved = nib.affines.apply_affine(affine_map.matrix, landmarks)
    np.testing.assert_allclose(transform(landmarks.T).T, moved, atol=1e-4)
    scans = [
        l2reg.ScanFiles(f"{name}.nii.gz", points=f"{name}.csv") for name in ("fixed", "moving")
    ]
    for given in (transform, "fsl:flirt.mat"):
        scores = l2reg.evaluate(given, *scans)
        assert scores["after"].mean_tre_mm < 1e-4
        distances = np.linalg.norm(landmarks - moved, axis=1)
        np.testing.assert_allclose(scores["before"].tre_mm, distances, atol=1e-4)


def test_a_form_in_voxels_needs_its_scans(landmarks: np.ndarray) -> None:
    with pytest.raises(InputError, match="both scans"):
        l2reg.read("fsl:flirt.mat")
