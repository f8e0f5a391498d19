from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch

from l2reg.inference.prepare import task_refinement
from l2reg.optimisation.point_term import GivenPoints
from l2reg.problems import InputError
from l2reg.registration.annotations import Annotations
from l2reg.registration.start import Start
from l2reg.registration.transform_scans import TransformScans
from l2reg.registration.used_annotations import split_by_use
from l2reg.transforms.world import voxel_map
from l2reg.transforms.world_transform import AffineMap, DisplacementMap, WorldTransform


@pytest.fixture
def annotations(oblique_scans: TransformScans, random: np.random.Generator) -> Annotations:
    fixed, moving = oblique_scans.both("")
    labels = tuple(random.integers(0, 4, grid.shape).astype(np.int16) for grid in (fixed, moving))
    voxels = random.uniform(3, 10, (2, 5, 3))
    points = tuple(
        nib.affines.apply_affine(grid.place.affine, v).T
        for grid, v in zip((fixed, moving), voxels, strict=True)
    )
    return Annotations((fixed, moving), labels, points)


@pytest.mark.parametrize("oblique_scans", [(False, True)], indirect=True)
def test_what_is_used_lies_where_the_start_puts_it(
    annotations: Annotations, smooth_field: DisplacementMap, affine_map: AffineMap
) -> None:
    """The start is a field, and a map besides; labels are looked up, points go the other way."""
    fixed, moving = annotations.grids
    transform = WorldTransform((smooth_field, affine_map))
    for steps in (transform.steps[1:], transform.steps):
        transform = WorldTransform(steps)
        disp = torch.from_numpy(transform.voxel_field(fixed, moving.place.affine))[None]
        matrix = voxel_map(affine_map.matrix @ fixed.place.affine, moving.place.affine)
        start = Start(torch.from_numpy(matrix)[None, :3].float(), disp if len(steps) == 2 else None)
        used = split_by_use(annotations, ("labels", "points"), refine=True)
        batch = used.batch(start, fixed.shape)
        voxels = np.indices(fixed.shape)
        at = np.rint(voxels + disp[0].numpy()).astype(int)
        inside = ((at >= 0) & (np.array(moving.shape) > at.T).T).all(axis=0)
        expected = np.where(inside, annotations.labels[1][tuple(at * inside)], 0)
        same = batch["moving_labels"][0, 0].numpy() == expected
        assert same.mean() > 0.99  # others lie half-way between two voxels
        assert torch.equal(batch["fixed_labels"][0, 0], torch.from_numpy(annotations.labels[0]))
        start_points = batch["moving_points"][0].numpy()
        world = nib.affines.apply_affine(fixed.place.affine, start_points)
        np.testing.assert_allclose(transform(world.T), annotations.points[1], atol=1e-2)
        world = nib.affines.apply_affine(fixed.place.affine, batch["fixed_points"][0].numpy())
        np.testing.assert_allclose(world.T, annotations.points[0], atol=1e-3)


@pytest.mark.parametrize("oblique_scans", [(False, False)], indirect=True)
def test_what_is_used_is_not_scored(annotations: Annotations) -> None:
    split = split_by_use(annotations, ("points",), refine=True)
    assert (split.used.labels, split.scored.points) == (None, None)
    assert split.used.points is annotations.points
    assert split.scored.labels is annotations.labels
    plain = task_refinement("lung")
    refinement = split.add_to(plain, {"labels": 2.0, "points": 0.5, "point_scale": 7.0})
    assert refinement.label_weight == 0
    assert (refinement.points.weight, refinement.points.cauchy_scale) == (0.5, 7.0)
    assert isinstance(refinement.points.matcher, GivenPoints)
    assert split_by_use(annotations, (), refine=False).add_to(plain, {}) is plain


@pytest.mark.parametrize("oblique_scans", [(False, False)], indirect=True)
def test_what_cannot_be_used_is_refused(annotations: Annotations) -> None:
    lacking = replace(annotations, points=None)
    with pytest.raises(InputError, match=r"(?s)--use points: has nothing.*--fixed-points FILE"):
        split_by_use(lacking, ("labels", "points"), refine=True)
    with pytest.raises(InputError, match="leave out --no-refine"):
        split_by_use(annotations, ("labels",), refine=False)
