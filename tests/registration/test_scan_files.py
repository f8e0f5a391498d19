from pathlib import Path

import numpy as np
import pytest

from l2reg.io.headers import Placement
from l2reg.io.scan_source import ScanSource
from l2reg.registration.scan_files import ScanFiles, as_scan_files, grid_problems
from l2reg.transforms.image_grid import ImageGrid


def test_a_name_alone_is_the_image() -> None:
    files = as_scan_files("scan.nii.gz")
    assert files.paths == [Path("scan.nii.gz")]
    both = ScanFiles("a", labels=Path("b"))
    assert as_scan_files(both) is both
    assert both.paths == [Path("a"), Path("b")]


@pytest.mark.parametrize(
    ("shape", "shift_mm", "found"),
    [
        ((4, 5, 6), 0.0, None),
        ((4, 5, 6), 0.8, None),  # 0.4 voxels
        ((4, 5, 6), 3.0, "a corner 1.5 voxels elsewhere"),
        ((4, 6, 5), 0.0, "shape (4, 6, 5)"),
    ],
)
def test_a_label_map_must_have_the_shape_and_place_of_its_scan(
    shape: tuple[int, int, int], shift_mm: float, found: str | None
) -> None:
    affine = np.diag([2.0, 1, 1, 1])
    moved = affine.copy()
    moved[0, 3] += shift_mm
    own, other = ImageGrid((4, 5, 6), Placement(affine)), ImageGrid(shape, Placement(moved))
    problems = grid_problems(Path("labels"), other, ScanSource(Path("scan")), own)
    assert len(problems) == (found is not None)
    if found is not None:
        assert found in problems[0].found
