import numpy as np
import pytest
import torch
from monai.losses import LocalNormalizedCrossCorrelationLoss

from l2reg.losses.local_ncc import LocalNCC, local_ncc

SHAPE = (9, 10, 11)


@pytest.mark.parametrize(("gain", "offset"), [(1.0, 0.0), (3.0, -7.0), (-1.0, 0.0), (1.0, 1000.0)])
def test_blind_to_gain_offset_and_sign(gain: float, offset: float, rng: torch.Generator) -> None:
    fixed = torch.rand(2, 1, *SHAPE, generator=rng)
    assert local_ncc(fixed, gain * fixed + offset, window=5).mean() > 0.999


def test_unrelated_images_score_low(rng: torch.Generator) -> None:
    fixed, other = (torch.rand(1, 1, *SHAPE, generator=rng) for _ in range(2))
    assert local_ncc(fixed, other, window=5).mean() < 0.2


def test_a_naive_loop_agrees(rng: torch.Generator) -> None:
    fixed, warped = (torch.rand(1, 1, *SHAPE, generator=rng, dtype=torch.float64) for _ in range(2))
    fast = local_ncc(fixed, warped, window=3)[0, 0].numpy()
    a, b = fixed[0, 0].numpy(), warped[0, 0].numpy()
    for i, j, k in np.random.default_rng(0).integers(1, 8, (20, 3)):
        cube = (slice(i - 1, i + 2), slice(j - 1, j + 2), slice(k - 1, k + 2))
        expected = np.corrcoef(a[cube].ravel(), b[cube].ravel())[0, 1] ** 2
        assert abs(fast[i, j, k] - expected) < 1e-3


def test_monai_agrees_inside(rng: torch.Generator) -> None:
    fixed = torch.rand(1, 1, 15, 16, 17, generator=rng)
    warped = 0.5 * fixed + 0.5 * torch.rand(1, 1, 15, 16, 17, generator=rng)
    monai = LocalNormalizedCrossCorrelationLoss(kernel_size=5, reduction="none")
    inner = (..., slice(3, -3), slice(3, -3), slice(3, -3))
    ours = local_ncc(fixed, warped, window=5)[inner]
    torch.testing.assert_close(ours, -monai(warped, fixed)[inner], atol=5e-3, rtol=0)


def test_flat_regions_say_nothing_and_cost_nothing() -> None:
    flat = torch.ones(1, 1, 7, 7, 7)
    torch.testing.assert_close(local_ncc(flat, flat, window=3), flat)
    other = local_ncc(flat, torch.rand(1, 1, 7, 7, 7), window=3).mean()
    torch.testing.assert_close(other, torch.tensor(1.0), atol=0.1, rtol=0)


@pytest.mark.parametrize("window", [0, 1, 4])
def test_the_window_must_be_odd_and_cover_neighbours(window: int) -> None:
    with pytest.raises(ValueError, match=f"odd number of voxels.*got {window}"):
        LocalNCC(window=window)
