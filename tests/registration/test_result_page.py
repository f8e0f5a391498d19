from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from l2reg.io.headers import Placement
from l2reg.io.scan_source import ScanSource
from l2reg.registration.annotations import read_annotations
from l2reg.registration.result import Registration
from l2reg.registration.result_page import add_annotations, write_result_page
from l2reg.registration.scan_files import ScanFiles
from l2reg.registration.transform_scans import TransformScans
from l2reg.registration.verdict import Verdict
from l2reg.reporting.registered_pair import RegisteredPair
from l2reg.transforms.image_grid import ImageGrid
from l2reg.transforms.world_transform import AffineMap, WorldTransform

pytestmark = pytest.mark.parametrize("oblique_scans", [(True, False)], indirect=True, ids=str)
WORKING = (8, 10, 9)  # the fixed grid is (14, 18, 16)
EVIL = "<img src=x>"


@pytest.fixture
def files(
    oblique_scans: TransformScans, affine_map: AffineMap, own_folder: None
) -> tuple[ScanFiles, ScanFiles]:
    """Two scans, half a volume of label 3 in each, and landmarks 2 mm off along x."""
    for name, grid in zip(("fixed", "moving"), oblique_scans.both(""), strict=True):
        labels = np.zeros(grid.shape, np.uint8)
        labels[:, : grid.shape[1] // 2] = 3
        for suffix, array in (("", labels.astype(np.int16)), ("_labels", labels)):
            image = nib.Nifti1Image(array, grid.place.affine)
            nib.save(image, f"{EVIL}{name}{suffix}.nii.gz")
    fixed = oblique_scans.both("")[0].points().T[::500]
    moving = nib.affines.apply_affine(affine_map.matrix, fixed) + np.array([2, 0, 0])
    np.savetxt("fixed.csv", fixed, delimiter=",")
    np.savetxt("moving.csv", moving, delimiter=",")
    one, two = (
        ScanFiles(f"{name}.nii.gz", labels=f"{name}_labels.nii.gz", points=f"{side}.csv")
        for side, name in (("fixed", f"{EVIL}fixed"), ("moving", f"{EVIL}moving"))
    )
    return one, two


def picture(shape: tuple[int, int, int] = WORKING) -> RegisteredPair:
    images = np.random.default_rng(0).random((3, *shape)).astype("f4")
    labels = np.zeros((2, *shape), np.int16)
    return RegisteredPair(*images, np.zeros((3, *shape), "f4"), *labels, (2.6, 1.9, 3.8))


@pytest.mark.parametrize("turned", [False, True])
def test_labels_and_landmarks_lie_on_the_grid_of_the_picture(
    files: tuple[ScanFiles, ScanFiles],
    oblique_scans: TransformScans,
    affine_map: AffineMap,
    turned: bool,
) -> None:
    fixed_grid, moving_grid = oblique_scans.both("")
    transform = WorldTransform((affine_map,))
    ratio = (np.array(fixed_grid.shape) - 1) / (np.array(WORKING) - 1)
    to_fixed = fixed_grid.place.affine @ np.diag([*ratio, 1])  # working voxels to mm
    shape = WORKING
    if turned:  # the third axis first, and backwards
        shape = (9, 8, 10)
        to_fixed = to_fixed @ np.array([[0, 1, 0, 0], [0, 0, 1, 0], [-1, 0, 0, 8], [0, 0, 0, 1]])
    grid = ImageGrid(shape, Placement(to_fixed))
    pair = add_annotations(picture(shape), grid, read_annotations(*files), transform)
    for place in np.ndindex(*shape):
        world = nib.affines.apply_affine(to_fixed, place)
        j = nib.affines.apply_affine(np.linalg.inv(fixed_grid.place.affine), world)[1]
        if abs(j - 8.5) > 0.6:  # not at the border of the label
            assert pair.fixed_labels[place] == (3 if j < 8.5 else 0)
        moved = nib.affines.apply_affine(affine_map.matrix, world)
        voxel = nib.affines.apply_affine(np.linalg.inv(moving_grid.place.affine), moved)
        inside = bool(((voxel > 1) & (voxel < np.array(moving_grid.shape) - 2)).all())
        if inside and abs(voxel[1] - 5.5) > 1.2:
            assert pair.warped_labels[place] == (3 if voxel[1] < 5.5 else 0)
    marks = pair.landmarks
    assert marks is not None
    expected = np.loadtxt("fixed.csv", delimiter=",")
    positions = nib.affines.apply_affine(to_fixed, marks.positions)
    np.testing.assert_allclose(positions, expected, atol=1e-4)
    left = marks.residuals @ to_fixed[:3, :3].T
    np.testing.assert_allclose(left, [[2, 0, 0]] * len(expected), atol=1e-4)
    np.testing.assert_allclose(marks.errors_mm, 2, atol=1e-4)
    assert pair.orientation == "".join(nib.aff2axcodes(to_fixed))


def test_the_page_has_flags_scores_and_the_command(
    files: tuple[ScanFiles, ScanFiles], oblique_scans: TransformScans, affine_map: AffineMap
) -> None:
    transform = WorldTransform((affine_map,))
    verdict = Verdict(1.0, 0.5, 0.9, 0.5, 0.9, 1.0, 2.0, 0.0, 0.0, flags=(f"bad {EVIL}",))
    scores = read_annotations(*files).scores(transform)
    source = ScanSource(Path(f"{EVIL}moving.nii.gz"))
    grid = ImageGrid(WORKING, oblique_scans.both("")[0].place)
    result = Registration(
        source, oblique_scans, transform, verdict, scores, {}, picture(), grid, None
    )
    write_result_page(Path("a.html"), result, *files, command=f"l2reg register {EVIL}")
    page = Path("a.html").read_text()
    assert EVIL not in page
    for words in ("&lt;img src=x&gt;moving.nii.gz registered to", "<li>bad &lt;img",
                  "<td>label 3</td>", "<td>mean</td>", "<td>2.0</td>",
                  "l2reg register &lt;img"):  # fmt: skip
        assert words in page
    assert "not a score" not in page
    used = replace(result, scores={}, fit=scores)
    write_result_page(Path("b.html"), used, *files, command="")
    assert "<h2>Labels (used, not a score), the worst first</h2>" in Path("b.html").read_text()
