from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from l2reg.geometry.resize import resample
from l2reg.losses.gradient_inverse_consistency import (
    GradientInverseConsistency,
    gradient_inverse_consistency_error,
)
from l2reg.losses.objective import Aligned

SHAPE = (12, 13, 14)
SPACING = torch.tensor([[1.0, 1.5, 3.0]])


def smooth_field(rng: torch.Generator) -> torch.Tensor:
    """A field that leads nowhere out of the grid."""
    inner = torch.randn(1, 3, 3, 3, 3, generator=rng)
    return resample(torch.nn.functional.pad(inner, [1] * 6), SHAPE)


def test_directions_that_differ_by_a_translation_cost_nothing() -> None:
    step = torch.tensor([1.0, -2.0, 0.5]).view(1, 3, 1, 1, 1).expand(1, 3, *SHAPE)
    mask = torch.ones(1, 1, *SHAPE)
    error = gradient_inverse_consistency_error(step, -3 * step, mask, SPACING)
    torch.testing.assert_close(error, torch.zeros(1), rtol=0, atol=1e-6)


def test_it_is_the_derivative_of_a_composition_by_scipy(rng: torch.Generator) -> None:
    forward, backward = smooth_field(rng), smooth_field(rng)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij"))
    ahead, back = forward[0].double().numpy(), backward[0].double().numpy()
    positions = grid + ahead
    composed = ahead + [map_coordinates(back[c], positions, order=1, mode="nearest")
                        for c in range(3)]  # fmt: skip
    mm = composed * SPACING[0].numpy()[:, None, None, None]
    crop = (slice(None), slice(-1), slice(-1), slice(-1))
    expected = sum(
        ((np.diff(mm, axis=1 + axis, append=np.nan)[crop] / float(SPACING[0, axis])) ** 2).sum(0)
        for axis in range(3)
    ).mean()  # type: ignore[union-attr]
    mask = torch.ones(1, 1, *SHAPE)
    found = gradient_inverse_consistency_error(forward, backward, mask, SPACING).item()
    assert found == pytest.approx(float(expected), rel=1e-3)


def test_the_term_needs_both_directions(aligned: Callable[..., Aligned]) -> None:
    image = torch.rand(2, 1, *SHAPE)
    rough = torch.randn(2, 3, *SHAPE)
    assert GradientInverseConsistency()(aligned(image, image, rough)).tolist() == [0, 0]
    both = aligned(image, image, rough, opposite=torch.tensor([1, 0]))
    assert (GradientInverseConsistency()(both) > 0.1).all()


def test_only_cells_whose_voxels_are_all_in_the_mask_count() -> None:
    forward = torch.zeros(1, 3, *SHAPE)
    forward[:, 0, 4:] = 2.0  # a step between planes 3 and 4
    mask = torch.ones(1, 1, *SHAPE)
    assert gradient_inverse_consistency_error(forward, 0 * forward, mask, SPACING) > 0.1
    mask[:, :, 4:] = 0
    assert gradient_inverse_consistency_error(forward, 0 * forward, mask, SPACING) == 0


def test_fields_that_lead_out_of_the_scan_everywhere_do_not_cost_nothing(
    aligned: Callable[..., Aligned],
) -> None:
    image = torch.ones(2, 1, *SHAPE)
    disp = 100 + torch.randn(2, 3, *SHAPE)
    pair = aligned(image, image, disp, opposite=torch.tensor([1, 0]))
    assert not pair.mask.any()
    assert (GradientInverseConsistency()(pair) > 0.1).all()
