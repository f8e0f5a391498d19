from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from l2reg.problems import InputError
from l2reg.registration.transform_reader import read_transform
from l2reg.registration.transform_scans import TransformScans
from l2reg.transforms.image_grid import ImageGrid


def save(path: Path, shape: tuple[int, ...], code: int = 0) -> Path:
    image = nib.Nifti1Image(np.zeros(shape, np.float32), np.eye(4))
    image.header["intent_code"] = code
    nib.save(image, path)
    return path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing.h5", "is no file.*\n.*\n.*no such file"),
        ("folder", "is no file.*\n.*\n.*a folder"),
        ("bare.mat", "as of greedy and of FSL.*\n.*greedy:bare.mat or fsl:bare.mat"),
        ("coefficients.nii.gz", "intent code 2007"),
        ("scan.nii.gz", "is no displacement field"),
        ("fsl:bare.mat", "add --reference FIXED"),
        ("fsl:relative.nii.gz", "add --moving MOVING"),
        ("challenge.nii.gz", "add --reference FIXED"),
        ("torch:challenge.nii.gz", "is in no form that its name or content tells"),
        ("freesurfer:bare.mat", "cannot be read as a transform of FreeSurfer"),
        ("itk:bare.mat", "cannot be read as a transform of ITK"),
    ],
)
def test_what_cannot_be_read_has_a_remedy(own_folder: None, name: str, message: str) -> None:
    Path("folder").mkdir()
    np.savetxt("bare.mat", np.eye(4))
    save(Path("coefficients.nii.gz"), (4, 5, 6, 3), 2007)
    save(Path("relative.nii.gz"), (4, 5, 6, 3), 2006)
    save(Path("challenge.nii.gz"), (4, 5, 6, 3))
    save(Path("scan.nii.gz"), (4, 5, 6))
    with pytest.raises(InputError, match=message):
        read_transform(name, TransformScans())


def test_a_file_whose_name_has_a_colon_is_read_under_its_name(own_folder: None) -> None:
    np.savetxt("greedy:b:c.mat", np.eye(4))
    np.savetxt("b:c.mat", 2 * np.diag([1, 1, 1, 0.5]))
    matrix = read_transform("greedy:b:c.mat", TransformScans()).matrix
    assert matrix is not None
    assert matrix[0, 0] == 2


def test_a_field_of_the_challenge_must_lie_on_the_fixed_grid(
    tmp_path: Path, oblique_scans: TransformScans
) -> None:
    path = save(tmp_path / "field.nii.gz", (4, 5, 6, 3))
    with pytest.raises(InputError, match=r"shape \(14, 18, 16\)\n.*shape \(4, 5, 6\)"):
        read_transform(path, oblique_scans)


def test_volumes_of_vectors_are_told_apart_by_axes_and_intent(
    tmp_path: Path, oblique_scans: TransformScans
) -> None:
    grid = oblique_scans.fixed
    assert isinstance(grid, ImageGrid)
    still = read_transform(save(tmp_path / "a.nii.gz", (4, 5, 6, 1, 3), 1007), TransformScans())
    np.testing.assert_array_equal(still(grid.points()), grid.points())
    with pytest.raises(InputError, match="intent code 1007"):
        read_transform(save(tmp_path / "a.nii.gz", (4, 5, 6, 3), 1007), oblique_scans)
