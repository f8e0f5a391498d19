import torch

from l2reg.geometry.affine import identity_affine
from l2reg.registration.working_grid import half_shape, on_grids, reduced_shape, working_batch


def test_thick_slices_are_all_searched() -> None:
    assert half_shape((65, 64, 20), [0.9, 0.9, 5.0]) == (33, 32, 20)
    assert half_shape((65, 64, 20), [1.0, 1.25, 1.75]) == (33, 32, 10)


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
    batch = working_batch(fixed, moving, shift, (1.0, 1.5, 2.0), max_voxels=10_000)
    assert torch.equal(batch["fixed"], fixed)
    torch.testing.assert_close(batch["moving"], moving[:, :, 2:11])
    assert batch["spacing_mm"].tolist() == [[1.0, 1.5, 2.0]]
    small = working_batch(fixed, moving, shift, (1.0, 1.5, 2.0), max_voxels=200)
    shape = small["fixed"].shape[2:]
    extent = (torch.tensor(shape) - 1) * small["spacing_mm"][0]
    torch.testing.assert_close(extent, torch.tensor([8 * 1.0, 10 * 1.5, 12 * 2.0]))
    full, half = on_grids(batch, ["full", "half"])
    assert full is batch
    assert half["fixed"].shape[2:] == (5, 6, 13)  # slices of 2 mm are twice as long as 1 mm
