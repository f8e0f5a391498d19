import numpy as np
import pytest
import torch

from l2reg.features.local_normalisation import LocalNormalisation

SHAPE = (9, 11, 13)
NORMALISE = LocalNormalisation(radius=2, flat=0.01)


def maps_and_mask(rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Return maps of two pairs, and a mask of whole, half and no voxels with a hole of 7 voxels."""
    mask = (2 * torch.rand(2, 1, *SHAPE, generator=rng)).round() / 2
    mask[0, :, 1:8, 2:9, 3:10] = 0
    return torch.rand(2, 3, *SHAPE, generator=rng), mask


def test_a_cube_of_one_voxel_is_refused() -> None:
    with pytest.raises(ValueError, match="radius must be 1 or more, got 0"):
        LocalNormalisation(radius=0, flat=0.01)


def test_a_loop_over_cubes_with_weighted_mean_and_variance_agrees(rng: torch.Generator) -> None:
    maps, mask = maps_and_mask(rng)
    found = NORMALISE(maps, mask).numpy()
    values, weights = maps.double().numpy(), mask.double().numpy()
    for b, c, i, j, k in [(0, 0, 0, 0, 0), (1, 2, 4, 5, 6), (0, 1, 8, 3, 12), (1, 0, 2, 10, 1)]:
        cube = tuple(slice(max(at - 2, 0), at + 3) for at in (i, j, k))
        part, weight = values[b, c][cube], weights[b, 0][cube]
        mean = np.average(part, weights=weight)
        deviation = np.sqrt(np.average((part - mean) ** 2, weights=weight) + 0.01)
        assert found[b, c, i, j, k] == pytest.approx(
            (values[b, c, i, j, k] - mean) / deviation, abs=1e-5
        )


def test_what_does_not_count_changes_nothing_where_something_does(rng: torch.Generator) -> None:
    maps, mask = maps_and_mask(rng)
    other = torch.where(mask > 0, maps, 1 - maps)
    counts = (mask > 0).expand_as(maps)
    torch.testing.assert_close(NORMALISE(maps, mask)[counts], NORMALISE(other, mask)[counts])


def test_maps_are_zero_where_no_voxel_of_the_cube_counts(rng: torch.Generator) -> None:
    found = NORMALISE(*maps_and_mask(rng))
    assert found[0, :, 4, 5, 6].tolist() == [0, 0, 0]
    assert bool(found.isfinite().all())


def test_local_offsets_vanish_and_weak_and_strong_structure_become_alike(
    rng: torch.Generator,
) -> None:
    maps, ones = torch.rand(1, 2, *SHAPE, generator=rng), torch.ones(1, 1, *SHAPE)
    changed = 3 * maps - 7
    exact = LocalNormalisation(radius=2, flat=0.0)
    torch.testing.assert_close(exact(maps, ones), exact(changed, ones), atol=1e-3, rtol=0)
