import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from l2reg.geometry.affine import identity_affine
from l2reg.registration.start import Start
from l2reg.registration.working_grid import (
    Views,
    half_shape,
    on_grids,
    overlap_regions,
    reduced_shape,
    shared_fraction,
    smooth_to_resolution,
    working_batch,
)

WHOLE = (65, 64, 20)


def everywhere(fixed: Tensor, moving: Tensor) -> Views:
    """Return the fields of view of scans without padding."""
    return np.ones(fixed.shape[2:], dtype=bool), np.ones(moving.shape[2:], dtype=bool)


def test_thick_slices_are_all_searched() -> None:
    assert half_shape((65, 64, 20), [0.9, 0.9, 5.0], WHOLE) == (33, 32, 20)
    assert half_shape((65, 64, 20), [1.0, 1.25, 1.75], WHOLE) == (33, 32, 10)


def test_large_voxels_are_not_made_larger() -> None:
    assert half_shape((65, 64, 20), [4.0, 4.0, 5.0], WHOLE) == (33, 32, 20)
    assert half_shape((65, 64, 20), [6.0, 6.0, 6.0], WHOLE) == (65, 64, 20)


def test_large_scans_are_reduced_alike_along_all_axes() -> None:
    assert reduced_shape((30, 40, 50), 60_000) == (30, 40, 50)
    assert reduced_shape((60, 80, 100), 60_000) == (30, 40, 50)


def test_the_working_grid_spans_the_fixed_scan_and_the_headers_map_is_applied(
    rng: torch.Generator,
) -> None:
    fixed = torch.rand(1, 1, 9, 11, 13, generator=rng)
    moving = torch.rand(1, 1, 12, 11, 13, generator=rng)
    shift = identity_affine(1)
    shift[0, 0, 3] = 2.0
    overlap = overlap_regions(everywhere(fixed, moving), Start(shift))[0]
    batch = working_batch(
        fixed,
        moving,
        Start(shift),
        (1.0, 1.5, 2.0),
        max_voxels=10_000,
        overlap=overlap,
        cross_modality=True,
    )
    assert batch["cross_modality"].tolist() == [1.0]
    assert torch.equal(batch["fixed"], fixed)
    torch.testing.assert_close(batch["moving"], moving[:, :, 2:11])
    assert batch["spacing_mm"].tolist() == [[1.0, 1.5, 2.0]]
    small = working_batch(
        fixed,
        moving,
        Start(shift),
        (1.0, 1.5, 2.0),
        max_voxels=200,
        overlap=overlap,
    )
    shape = small["fixed"].shape[2:]
    extent = (torch.tensor(shape) - 1) * small["spacing_mm"][0]
    torch.testing.assert_close(extent, torch.tensor([8 * 1.0, 10 * 1.5, 12 * 2.0]))
    full, half = on_grids(batch, ["full", "half"])
    assert full is batch
    assert half["fixed"].shape[2:] == (5, 6, 13)  # slices of 2 mm are twice as long as 1 mm


def test_the_overlap_is_what_the_moving_scan_covers(rng: torch.Generator) -> None:
    fixed, moving = (torch.rand(1, 1, n, 11, 13, generator=rng) for n in (9, 6))
    shift = identity_affine(1)
    shift[0, 0, 3] = -2.0  # the moving scan begins at the third plane and ends with the eighth
    overlap = overlap_regions(everywhere(fixed, moving), Start(shift))[0]
    batch = working_batch(
        fixed,
        moving,
        Start(shift),
        (1.0, 1.0, 1.0),
        max_voxels=10_000,
        overlap=overlap,
    )
    assert batch["overlap"][0, 0, :, 5, 5].tolist() == [0, 0, 1, 1, 1, 1, 1, 1, 0]
    regions = overlap_regions(everywhere(fixed, moving), Start(shift))
    assert regions[0][:, 5, 5].tolist() == [False] * 2 + [True] * 6 + [False]
    assert regions[1].all()


def test_a_small_scan_that_lies_inside_a_large_one_is_shared_whole(rng: torch.Generator) -> None:
    large, little = torch.rand(1, 1, 18, 17, 16, generator=rng), torch.rand(1, 1, 6, 5, 7)
    inward = identity_affine(1)
    inward[0, :, 3] = torch.tensor([-6.0, -5.0, -4.0])
    outward = identity_affine(1)
    outward[0, :, 3] = torch.tensor([-15.0, -5.0, -4.0])  # 3 of 6 planes lie inside
    for matrix, expected in ((inward, 1.0), (outward, 0.5)):
        views = everywhere(large, little)
        assert shared_fraction(views, overlap_regions(views, Start(matrix))) == expected


def test_padding_of_either_scan_is_not_in_the_overlap(rng: torch.Generator) -> None:
    fixed, moving = (torch.rand(1, 1, 8, 7, 6, generator=rng) for _ in range(2))
    shift = identity_affine(1)
    shift[0, 2, 3] = 1.0
    views = everywhere(fixed, moving)
    views[0][:2] = False
    views[1][:, :, :3] = False
    expected = np.zeros((8, 7, 6), dtype=bool)
    expected[2:, :, 2:5] = True  # moving voxels 3 to 5
    regions = overlap_regions(views, Start(shift))
    np.testing.assert_array_equal(regions[0], expected)
    np.testing.assert_array_equal(regions[1], np.roll(expected, 1, axis=2))


def test_the_finer_scan_is_smoothed_as_the_coarser_one_was(random: np.random.Generator) -> None:
    """Two scanners see one body, each through a Gaussian as wide as its voxels at half maximum."""
    body = random.standard_normal((141, 135, 129))
    fine, coarse = (
        gaussian_filter(body, step / 2.3548, mode="nearest")[::step, ::step, ::step].astype("f4")
        for step in (4, 8)
    )
    inner = (slice(3, -3),) * 3
    unlike = np.abs(coarse - fine[::2, ::2, ::2])[inner].mean()
    scans = [torch.from_numpy(image.copy())[None, None] for image in (fine, coarse)]
    for n, step in ((0, 0.5), (1, 2.0)):
        fixed, moving = scans[n], scans[1 - n]
        initial = torch.from_numpy(np.c_[np.diag([step] * 3), np.zeros(3)])[None].float()
        overlap = np.ones(fixed.shape[2:], dtype=bool)
        batch = working_batch(
            fixed, moving, Start(initial), (2.0, 2.0, 2.0), max_voxels=10**6, overlap=overlap
        )
        every = (0, 0, *[slice(None, None, 2 if step < 1 else None)] * 3)
        difference = (batch["fixed"][every] - batch["moving"][every])[inner]
        assert difference.abs().mean() < 0.12 * unlike
    fine = scans[0]
    assert torch.equal(smooth_to_resolution(fine, identity_affine(1)), fine)


def test_only_the_axis_of_thick_slices_is_smoothed(rng: torch.Generator) -> None:
    scan = torch.rand(1, 2, 8, 9, 10, generator=rng)
    slices = identity_affine(1)
    slices[0, :, :3] = torch.tensor([[0, 0, 4.0], [0, 1, 0], [1, 0, 0]])  # lie along i here
    smoothed = smooth_to_resolution(scan, slices)
    expected = gaussian_filter(scan.numpy(), 15**0.5 / 2.3548, mode="nearest", axes=2)
    np.testing.assert_allclose(smoothed.numpy(), expected, atol=0.01)


@pytest.mark.parametrize(("planes", "halved"), [(13, False), (24, True), (38, True)])
def test_a_thin_overlap_keeps_the_voxels_across_it(planes: int, halved: bool) -> None:
    """Half of 13 planes would leave nothing beside the margins; an overlap of all 38 has none."""
    scan = torch.zeros(1, 1, 30, 28, 38)
    overlap = np.zeros((30, 28, 38), dtype=bool)
    overlap[:, :, 38 - planes :] = True
    batch = working_batch(
        scan,
        scan,
        Start(identity_affine(1)),
        (2.0, 2.0, 2.0),
        max_voxels=10**6,
        overlap=overlap,
    )
    half = on_grids(batch, ["half"])[0]
    assert half["fixed"].shape[2:] == (15, 14, 19 if halved else 38)
    assert half["spacing_mm"].tolist()[0][2] == pytest.approx(37 * 2 / (18 if halved else 37))
