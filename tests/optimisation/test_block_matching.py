from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from l2reg.features.mind import Mind
from l2reg.geometry.affine import Motion, affine_field, identity_affine
from l2reg.geometry.warp import warp
from l2reg.optimisation.block_matching import BlockMatching, trimmed_fit
from l2reg.shapes import Affine

SHAPE = (48, 40, 44)
SPACING_MM = torch.tensor([[2.0, 3.0, 2.5]])
SEARCH = BlockMatching(
    features=Mind(radius=1, dilation=1), max_size=60, stride=2, radius=4,
    smoothing_passes=1, couplings=(0.003, 0.01, 0.03, 0.1, 0.3, 1.0), max_iterations=6,
    step_tolerance=0.1, inlier_fraction=0.6, trim_iterations=10, min_overlap=0.3,
)  # fmt: skip
MOTIONS: tuple[Motion, ...] = ("translation", "rigid", "affine")


def blobs(seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.standard_normal(SHAPE), 3)
    edges = (smooth > 0.01).astype(np.float32)
    window = np.zeros(SHAPE, np.float32)
    window[8:-8, 8:-8, 8:-8] = 1
    return torch.from_numpy(gaussian_filter((edges + 0.5) * window, 0.7))[None, None].float()


def map_in_mm(motion: Motion) -> np.ndarray:
    """Return a map about the volume's centre, in mm: (3, 4)."""
    linear = np.eye(3)
    if motion != "translation":
        linear = Rotation.from_euler("xyz", [4, -6, 5], degrees=True).as_matrix()
    if motion == "affine":
        linear = linear @ np.diag([1.06, 0.95, 1.03])
    centre = (np.array(SHAPE) - 1) / 2 * SPACING_MM[0].numpy()
    return np.c_[linear, centre - linear @ centre + [7.0, -8.0, 5.0]]


def in_voxels(matrix: np.ndarray) -> Affine:
    spacing = SPACING_MM[0].numpy()
    return torch.from_numpy(np.c_[matrix[:, :3] * spacing, matrix[:, 3]] / spacing[:, None])[
        None
    ].float()


def batch_of(fixed: torch.Tensor, moving: torch.Tensor) -> dict[str, torch.Tensor]:
    mask = torch.ones(1, 1, *SHAPE)
    masks = {"fixed_mask": mask, "moving_mask": mask}
    return {"fixed": fixed, "moving": moving, **masks, "spacing_mm": SPACING_MM}


@pytest.mark.parametrize("motion", MOTIONS)
def test_a_known_map_between_unlike_intensities_is_found(motion: Motion) -> None:
    moving = blobs()
    truth = in_voxels(map_in_mm(motion))
    fixed = warp(moving, affine_field(truth, SHAPE), padding="zeros")
    found = SEARCH(batch_of(1.5 - fixed, moving), motion, identity_affine(1))
    inside = (fixed > 0.1).expand(1, 3, *SHAPE)
    before = (affine_field(truth, SHAPE))[inside].abs().mean()
    error = (affine_field(found, SHAPE) - affine_field(truth, SHAPE))[inside].abs()
    assert before > 2
    assert error.mean() < 0.25


def test_a_start_is_used() -> None:
    moving = blobs()
    truth = identity_affine(1)
    truth[0, :, 3] = torch.tensor([14.0, 0.0, 0.0])  # further than the search looks
    fixed = torch.roll(moving, (-14,), (2,))
    start = identity_affine(1)
    start[0, :, 3] = torch.tensor([12.0, 0.0, 0.0])
    found = SEARCH(batch_of(fixed, moving), "translation", start)
    torch.testing.assert_close(found, truth, atol=0.2, rtol=0)


def test_the_result_never_fits_worse_than_the_start() -> None:
    fixed, moving = blobs(0), blobs(1)
    start = identity_affine(1)
    found = SEARCH(batch_of(fixed, moving), "affine", start)

    def misfit(matrix: Affine) -> float:
        here, there = SEARCH.features(
            fixed, warp(moving, affine_field(matrix, SHAPE), padding="zeros")
        )
        return float((here - there).square().mean())

    assert misfit(found) <= misfit(start) * 1.02  # judged on the coarse grid, checked on the fine


@pytest.mark.parametrize("motion", MOTIONS)
def test_a_third_of_wrong_matches_does_not_matter(motion: Motion) -> None:
    rng = np.random.default_rng(0)
    matrix = map_in_mm(motion)
    here = rng.uniform(0, 90, (300, 3))
    there = here @ matrix[:, :3].T + matrix[:, 3]
    there[:100] += rng.uniform(20, 60, (100, 3))
    found = trimmed_fit(
        torch.from_numpy(here),
        torch.from_numpy(there),
        motion,
        inlier_fraction=0.6,
        trim_iterations=10,
    )
    np.testing.assert_allclose(found.numpy(), matrix, atol=1e-6)


def test_the_rigid_fit_is_that_of_scipy() -> None:
    rng = np.random.default_rng(1)
    here = rng.standard_normal((50, 3))
    there = here @ Rotation.random(random_state=2).as_matrix().T + 0.3 * rng.standard_normal(
        (50, 3)
    )
    found = trimmed_fit(
        torch.from_numpy(here),
        torch.from_numpy(there),
        "rigid",
        inlier_fraction=1.0,
        trim_iterations=10,
    )
    rotation, _ = Rotation.align_vectors(there - there.mean(axis=0), here - here.mean(axis=0))
    np.testing.assert_allclose(found[:, :3].numpy(), rotation.as_matrix(), atol=1e-10)


def test_a_mirror_image_is_no_rigid_motion() -> None:
    rng = np.random.default_rng(1)
    here = rng.standard_normal((50, 3))
    found = trimmed_fit(
        torch.from_numpy(here),
        torch.from_numpy(-here),
        "rigid",
        inlier_fraction=1.0,
        trim_iterations=10,
    )
    assert float(torch.linalg.det(found[:, :3])) == pytest.approx(1)


def test_a_start_that_leads_astray_is_left_for_where_the_scans_are() -> None:
    moving = blobs()
    truth = in_voxels(map_in_mm("rigid"))
    fixed = warp(moving, affine_field(truth, SHAPE), padding="zeros")
    astray = identity_affine(1)
    astray[0, :, 3] = torch.tensor([30.0, 25.0, -25.0])  # next to no overlap
    found = SEARCH(batch_of(fixed, moving), "rigid", astray)
    torch.testing.assert_close(found, truth, atol=0.5, rtol=0.05)


def test_partners_outside_the_moving_mask_do_not_count() -> None:
    moving, other = blobs(0), blobs(1)
    truth = in_voxels(map_in_mm("translation"))
    fixed = warp(moving, affine_field(truth, SHAPE), padding="zeros")
    batch = batch_of(fixed, moving)
    half = slice(SHAPE[2] // 2 - 4, None)
    batch["moving"][..., half] = other[..., half]  # what is not part of the scan
    batch["moving_mask"] = batch["moving_mask"].clone()
    batch["moving_mask"][..., half] = 0
    found = SEARCH(batch, "translation", identity_affine(1))
    torch.testing.assert_close(found, truth, atol=0.5, rtol=0)


def test_shares_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match=r"inlier_fraction must be in \(0, 1\], got 0"):
        replace(SEARCH, inlier_fraction=0)


@pytest.mark.parametrize("name", ["max_size", "stride", "radius", "max_iterations"])
def test_sizes_below_one_are_refused(name: str) -> None:
    with pytest.raises(
        ValueError, match="max_size, stride, radius and max_iterations must be 1 or more"
    ):
        replace(SEARCH, **{name: 0})
