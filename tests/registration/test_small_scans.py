import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from l2reg.registration.small_scans import SmallScans, shrink_scans
from l2reg.shapes import Affine

SPACING_MM = (2.0, 3.0, 2.5)
MOVING_MM = np.array([1.0, 1.5, 2.0])
SHAPES = ((24, 18, 30), (40, 36, 20))


def affine(matrix: np.ndarray) -> Affine:
    return torch.from_numpy(matrix)[None].float()


@pytest.fixture
def headers() -> Affine:
    turn = Rotation.from_euler("xyz", [10, -5, 20], degrees=True).as_matrix()
    linear = np.diag(1 / MOVING_MM) @ turn @ np.diag(SPACING_MM)
    return affine(np.c_[linear, [1.5, -2.0, 0.5]])


@pytest.fixture
def scans(headers: Affine, rng: torch.Generator) -> SmallScans:
    fixed, moving = (torch.rand(1, 1, *shape, generator=rng) for shape in SHAPES)
    masks = (torch.ones_like(fixed), torch.ones_like(moving))
    return shrink_scans((fixed, moving), masks, headers, SPACING_MM, 16)


def test_the_longest_side_of_both_scans_has_the_size_asked_for(scans: SmallScans) -> None:
    fixed, moving = (image.shape[2:] for image in scans.images)
    assert max(*fixed, *moving) == 16  # 72.5 mm along k of the fixed scan
    assert fixed == (11, 12, 16)  # 46 and 51 mm
    assert moving == (9, 12, 9)  # 39, 52.5 and 38 mm
    np.testing.assert_allclose(
        scans.spacing_mm, np.array([46, 51, 72.5]) / (np.array(fixed) - 1), rtol=1e-5
    )


def test_a_map_of_small_voxels_is_the_same_map_of_full_voxels(
    scans: SmallScans, headers: Affine
) -> None:
    small = scans.to_small(headers)
    np.testing.assert_allclose(scans.to_full(small), headers, atol=1e-4)
    full_corner = np.array(SHAPES[0]) - 1
    small_corner = np.array(scans.images[0].shape[2:]) - 1
    there = headers[0, :, :3].numpy() @ full_corner + headers[0, :, 3].numpy()
    small_there = small[0, :, :3].numpy() @ small_corner + small[0, :, 3].numpy()
    ratio = (np.array(scans.images[1].shape[2:]) - 1) / (np.array(SHAPES[1]) - 1)
    np.testing.assert_allclose(small_there, there * ratio, atol=1e-4)


def test_a_field_of_full_voxels_leads_to_the_same_places(
    scans: SmallScans, headers: Affine
) -> None:
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPES[0]), indexing="ij"))
    matrix = headers[0].numpy()
    positions = np.einsum("cd,dijk->cijk", matrix[:, :3], grid) + matrix[:, 3, None, None, None]
    disp = torch.from_numpy(positions - grid)[None].float()
    by_map = scans.align(scans.to_small(headers))["moving"]
    by_field = scans.batch(scans.small_field(disp))["moving"]
    np.testing.assert_allclose(by_field, by_map, atol=1e-4)
    small = scans.images[1][0, 0].numpy()
    corner = positions[:, -1, 0, -1] * (np.array(small.shape) - 1) / (np.array(SHAPES[1]) - 1)
    expected = map_coordinates(small, corner[:, None], order=1, mode="nearest")[0]
    assert by_map[0, 0, -1, 0, -1] == pytest.approx(expected, abs=1e-4)


def test_the_overlap_is_the_fraction_of_the_smaller_scan(scans: SmallScans) -> None:
    i, j, k = scans.images[0].shape[2:]
    cover = torch.from_numpy(
        np.diag((np.array(scans.images[1].shape[2:]) - 1) / (np.array([i, j, k]) - 1))
    )
    whole = torch.cat([cover, torch.zeros(3, 1)], dim=1)[None].float()
    expected = scans.images[0].numel() / min(
        scans.images[0].numel(), scans.images[1].numel() / scans.volume_ratio
    )
    assert expected > 1  # the map stretches the moving scan
    assert scans.overlap(scans.align(whole)) == 1
    part = whole.clone()
    part[:, 0, 3] = 0.75 * scans.images[1].shape[2]
    assert scans.overlap(scans.align(part)) == pytest.approx(expected / 4, rel=0.3)
    away = whole.clone()
    away[:, 0, 3] = 100
    assert scans.overlap(scans.align(away)) == 0


def test_the_distance_from_the_headers_is_in_mm_and_degrees(
    scans: SmallScans, headers: Affine
) -> None:
    turn = Rotation.from_rotvec([0.2, -0.1, 0.3])
    linear = np.diag(1 / np.array(SPACING_MM)) @ turn.as_matrix() @ np.diag(SPACING_MM)
    centre = (np.array(SHAPES[0]) - 1) / 2
    shift_mm = np.array([6.0, -9.0, 5.0])
    own = np.c_[linear, centre - linear @ centre + shift_mm / SPACING_MM]  # of fixed voxels
    matrix = headers[0].numpy()
    moved = affine(np.c_[matrix[:, :3] @ own[:, :3], matrix[:, :3] @ own[:, 3] + matrix[:, 3]])
    start, end = scans.to_small(headers), scans.to_small(moved)
    translation, rotation = scans.change(start, end)
    assert translation == pytest.approx(np.linalg.norm(shift_mm), rel=1e-3)
    assert rotation == pytest.approx(np.degrees(turn.magnitude()), rel=1e-3)
    assert scans.change(start, start) == pytest.approx((0, 0), abs=0.1)
    assert scans.distance_mm(start, start) == pytest.approx(0, abs=1e-3)
    assert translation < scans.distance_mm(start, end) < translation + 30 * turn.magnitude()


def test_masked_voxels_and_those_beyond_the_moving_scan_have_no_mask(headers: Affine) -> None:
    images = tuple(torch.ones(1, 1, *shape) for shape in SHAPES)
    masks = tuple(torch.ones(1, 1, *shape) for shape in SHAPES)
    masks[1][:, :, :20] = 0
    scans = shrink_scans(images, masks, headers, SPACING_MM, 16)  # type: ignore[arg-type]
    batch = scans.align(scans.to_small(headers))
    positions = np.stack(np.meshgrid(*map(np.arange, scans.images[0].shape[2:]), indexing="ij"))
    small = scans.to_small(headers)[0].numpy()
    there = np.einsum("cd,dijk->cijk", small[:, :3], positions) + small[:, 3, None, None, None]
    inside = map_coordinates(scans.masks[1][0, 0].numpy(), there, order=1, cval=0.0) > 0.99
    assert (batch["moving_mask"][0, 0].numpy() == inside).mean() > 0.99
    assert 0 < inside.mean() < 0.6


def test_blank_surroundings_do_not_count_but_for_a_margin(
    headers: Affine, rng: torch.Generator
) -> None:
    """A body on black against one in noise: what tells something is near the body."""
    fixed, moving = (torch.zeros(1, 1, *shape) for shape in SHAPES)
    fixed[:, :, 8:16, 6:12, 10:20] = 0.5 + torch.rand(1, 1, 8, 6, 10, generator=rng)
    moving[:] = torch.rand(moving.shape, generator=rng)
    masks = (torch.ones_like(fixed), torch.ones_like(moving))
    scans = shrink_scans((fixed, moving), masks, headers, SPACING_MM, 30)
    assert scans.images[0].shape[2:] == (19, 18, 30)  # 2.6, 3 and 2.5 mm
    at = np.argwhere(scans.masks[0][0, 0].numpy())
    body = np.array([[8, 6, 10], [15, 11, 19]]) * np.array([18 / 23, 1, 1])
    outward = np.abs(np.stack([at.min(axis=0), at.max(axis=0)]) - body)
    assert (outward > 1.5).all()
    assert (outward < 4.5).all()
    assert bool(scans.masks[1].all())
    ones = torch.ones_like(fixed)
    blank = shrink_scans((0 * ones, moving), masks, headers, SPACING_MM, 30)
    assert not bool(blank.masks[0].any())
