from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from l2reg.problems import InputError
from l2reg.registration.annotations import (
    Scores,
    read_annotations,
    score_flags,
    score_lines,
)
from l2reg.registration.scan_files import ScanFiles
from l2reg.registration.transform_scans import TransformScans
from l2reg.registration.warp_files import Coordinates
from l2reg.transforms.world_transform import AffineMap, WorldTransform

pytestmark = pytest.mark.parametrize("oblique_scans", [(True, False)], indirect=True, ids=str)


def side(name: str, **others: Any) -> ScanFiles:
    return ScanFiles(f"{name}.nii.gz", **others)


@pytest.fixture
def scans(oblique_scans: TransformScans, affine_map: AffineMap, own_folder: None) -> TransformScans:
    """Two scans, a box in both that the affine map joins, and landmarks that it joins."""
    fixed, moving = oblique_scans.both("")
    back = np.linalg.inv(affine_map.matrix)
    for name, grid, matrix in (("fixed", fixed, np.eye(4)), ("moving", moving, back)):
        points = nib.affines.apply_affine(matrix, grid.points().T)
        box = (np.abs(points - [5, -7, 3]) < [4, 5, 6]).all(axis=1).reshape(grid.shape)
        nib.save(nib.Nifti1Image(np.zeros(grid.shape, np.int16), grid.place.affine),
                 f"{name}.nii.gz")  # fmt: skip
        labels = 3 * box.astype(np.uint8)
        labels[0, 0, 0] = 7 if name == "fixed" else 9
        nib.save(nib.Nifti1Image(labels, grid.place.affine), f"{name}_labels.nii.gz")
    world = fixed.points().T[::500]
    np.savetxt("fixed.csv", world, delimiter=",")
    np.savetxt("moving.csv", nib.affines.apply_affine(affine_map.matrix, world), delimiter=",")
    return oblique_scans


def test_a_transform_that_joins_labels_and_landmarks_scores_well(
    scans: TransformScans, affine_map: AffineMap
) -> None:
    files = [
        side(name, labels=Path(f"{name}_labels.nii.gz"), points=Path(f"{name}.csv"))
        for name in ("fixed", "moving")
    ]
    scores = read_annotations(*files).scores(WorldTransform((affine_map,)))
    before, after = scores["before"], scores["after"]
    assert set(after.dice) == {3}  # 7 and 9 are in one of the scans only
    assert before.mean_dice < 0.9 < after.mean_dice
    assert after.mean_tre_mm < 1e-6
    fixed, moving = (np.loadtxt(f"{name}.csv", delimiter=",") for name in ("fixed", "moving"))
    np.testing.assert_allclose(before.tre_mm, np.linalg.norm(fixed - moving, axis=1))
    assert score_lines(scores)[0].startswith("Dice 0.")
    assert score_lines(scores)[1] == f"TRE {before.mean_tre_mm:.2f} -> 0.00 mm (9 landmarks)"


@pytest.mark.parametrize("coordinates", ["lps", "voxels"])
def test_landmarks_mean_the_same_in_other_coordinates(
    scans: TransformScans, affine_map: AffineMap, coordinates: Coordinates
) -> None:
    for name, grid in zip(("fixed", "moving"), scans.both(""), strict=True):
        matrix = np.diag([-1, -1, 1, 1])
        if coordinates == "voxels":
            matrix = np.linalg.inv(grid.place.affine)
        points = nib.affines.apply_affine(matrix, np.loadtxt(f"{name}.csv", delimiter=","))
        np.savetxt(f"{name}_other.csv", points, delimiter=",")
    files = [
        side(name, points=Path(f"{name}_other.csv"), coordinates=coordinates)
        for name in ("fixed", "moving")
    ]
    scores = read_annotations(*files).scores(WorldTransform((affine_map,)))
    assert scores["after"].mean_tre_mm < 1e-4
    assert scores["after"].dice == {}


def test_without_annotations_there_are_no_scores(scans: TransformScans) -> None:
    scores = read_annotations(side("fixed"), side("moving")).scores(WorldTransform(()))
    assert scores == {}
    assert score_lines(scores) == []
    assert score_lines({"before": Scores({}, ()), "after": Scores({}, ())}) == []


def test_annotations_that_do_not_belong_together_are_refused(scans: TransformScans) -> None:
    labels, points = Path("fixed_labels.nii.gz"), Path("fixed.csv")
    with pytest.raises(InputError, match="--moving-labels: is missing"):
        read_annotations(side("fixed", labels=labels), side("moving"))
    with pytest.raises(InputError, match="--fixed-points: is missing"):
        read_annotations(side("fixed"), side("moving", points=points))
    with pytest.raises(InputError, match=r"does not lie on the grid of moving\.nii\.gz"):
        read_annotations(side("fixed", labels=labels), side("moving", labels=labels))
    np.savetxt("few.csv", np.zeros((2, 3)), delimiter=",")
    with pytest.raises(InputError, match="expected  9 rows\n  found     2 rows"):
        read_annotations(side("fixed", points=points), side("moving", points=Path("few.csv")))
    image = nib.load("moving_labels.nii.gz")
    other = nib.Nifti1Image(np.asarray(image.dataobj) + np.uint8(20), image.affine)
    nib.save(other, "other.nii.gz")
    with pytest.raises(InputError, match=r"has no label of fixed_labels\.nii\.gz"):
        read_annotations(side("fixed", labels=labels), side("moving", labels=Path("other.nii.gz")))


def test_landmarks_and_labels_that_fit_worse_or_lie_outside_are_flagged(
    scans: TransformScans, affine_map: AffineMap
) -> None:
    def flags(coordinates: Coordinates, *maps: AffineMap) -> list[str]:
        files = [
            side(
                name, labels=f"{name}_labels.nii.gz", points=f"{name}.csv", coordinates=coordinates
            )
            for name in ("fixed", "moving")
        ]
        annotations = read_annotations(*files)
        return [*annotations.flags(), *score_flags(annotations.scores(WorldTransform(maps)))]

    assert flags("ras", affine_map) == []
    assert flags("ras") == []
    labels, landmarks = flags("ras", affine_map.inverse)
    assert labels.startswith("labels fit worse than by the headers: Dice 0.")
    assert landmarks.startswith("landmarks fit worse than by the headers: TRE ")
    far = AffineMap(np.diag([1.0, 1, 1, 1]) + 1e4 * np.eye(4, k=3))
    assert any("are their order and --coordinates right?" in flag for flag in flags("lps", far))
    np.savetxt("fixed.csv", 1e3 + np.loadtxt("fixed.csv", delimiter=","), delimiter=",")
    assert flags("ras")[0].startswith("100 % of the fixed landmarks lie outside of the scan")
