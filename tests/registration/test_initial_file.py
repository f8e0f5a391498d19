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
    start = read_initial(name, files, "auto")
    assert start.disp is None
    matrix = start.matrix[0].numpy()
    fixed, moving = oblique_scans.both("")
    voxels = np.array([[0, 0, 0], [3, 8, 2], [13, 17, 15.0]])
    world = nib.affines.apply_affine(affine_map.matrix @ fixed.place.affine, voxels)
    expected = nib.affines.apply_affine(np.linalg.inv(moving.place.affine), world)
    np.testing.assert_allclose(voxels @ matrix[:, :3].T + matrix[:, 3], expected, atol=1e-3)


@pytest.mark.parametrize(
    "name",
    ["itk:a.nii.gz", "itk:a.h5", "greedy:a.nii.gz", "fsl:a.nii.gz", "spm:y_a.nii", "torch:a.npy",
     "challenge:a.nii.gz", "challenge-2021:disp_0001_0001.npz"],
)  # fmt: skip
@pytest.mark.parametrize("oblique_scans", [(False, True)], indirect=True)
def test_every_form_of_a_field_starts_at_the_same_voxels(
    oblique_scans: TransformScans,
    files: tuple[ScanFiles, ScanFiles],
    smooth_field: DisplacementMap,
    affine_map: AffineMap,
    name: str,
) -> None:
    """Fixed voxels go to the world, are moved by the field, then the map, and come back."""
    form, _, file = name.partition(":")
    steps = (smooth_field,) if form == "challenge-2021" else (smooth_field, affine_map)
    write_transform(Path(file), WorldTransform(steps), form, oblique_scans)
    start = read_initial(name, files, "auto")
    fixed, moving = oblique_scans.both("")
    voxels = np.array([[3, 8, 2], [5, 6, 9], [9, 12, 11]])
    world = nib.affines.apply_affine(fixed.place.affine, voxels)
    world += smooth_field.disp_mm[:, *voxels.T].T
    if len(steps) == 2:
        world = nib.affines.apply_affine(affine_map.matrix, world)
    expected = nib.affines.apply_affine(np.linalg.inv(moving.place.affine), world)
    found = voxels + start.field(fixed.shape)[0, :, *voxels.T].numpy().T
    half_samples = form == "challenge-2021"
    np.testing.assert_allclose(found, expected, atol=0.3 if half_samples else 1e-3)


@pytest.mark.parametrize("oblique_scans", [(True, False)], indirect=True)
def test_it_is_said_how_much_of_the_fixed_scan_a_field_covers(
    oblique_scans: TransformScans,
    files: tuple[ScanFiles, ScanFiles],
    smooth_field: DisplacementMap,
    capsys: pytest.CaptureFixture[str],
) -> None:
    half = DisplacementMap(smooth_field.disp_mm[:, :7], smooth_field.place)
    write_transform(Path("half.nii.gz"), WorldTransform((half,)), "itk", TransformScans())
    disp = read_initial("half.nii.gz", files, "auto").disp
    assert disp is not None
    assert "half.nii.gz: covers 50 % of the fixed scan" in capsys.readouterr().out


@pytest.mark.parametrize("oblique_scans", [(False, False)], indirect=True)
def test_a_search_besides_is_refused(files: tuple[ScanFiles, ScanFiles]) -> None:
    with pytest.raises(InputError, match="--prealign rigid: searches for a map, but one is given"):
        read_initial("field.nii.gz", files, "rigid")
