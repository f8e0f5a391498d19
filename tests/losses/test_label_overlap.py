import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from l2reg.losses import label_overlap as module
from l2reg.losses.label_overlap import label_overlap

SHAPE, MOVING = (4, 5, 6), (5, 4, 7)
LABELS = [2, 5, 300]


def case(rng: torch.Generator, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, ...]:
    """Return two label maps with blocks of one label, and a field that leads out in part."""
    values = torch.tensor([0, 2, 5, 9, 300], dtype=torch.int16)
    fixed, moving = (
        values[torch.randint(5, (1, 1, *shape), generator=rng)] for shape in (SHAPE, MOVING)
    )
    moving[..., :3, :3] = 5
    disp = 3 * torch.rand(1, 3, *SHAPE, generator=rng, dtype=torch.float64) - 1.5
    return fixed, moving, disp.to(dtype).requires_grad_()


@pytest.mark.parametrize("slab", [1, 2**17])
def test_sums_are_those_of_one_hot_volumes_that_scipy_interpolates(
    slab: int, rng: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SLAB_VOXELS", slab)
    fixed, moving, disp = case(rng)
    at = np.indices(SHAPE) + disp[0].detach().numpy()
    ours = torch.stack(label_overlap(fixed, moving, disp, LABELS)).T
    for label, sums in zip(LABELS, ours, strict=True):
        volume = (moving[0, 0].numpy() == label).astype(float)
        warped = map_coordinates(volume, at, order=1, mode="grid-constant")
        overlap = (warped * (fixed[0, 0].numpy() == label)).sum()
        np.testing.assert_allclose(sums.detach().numpy(), [overlap, (warped**2).sum()])


@pytest.mark.parametrize("slab", [1, 2**17])
def test_gradients_are_those_of_finite_differences(
    slab: int, rng: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SLAB_VOXELS", slab)
    fixed, moving, disp = case(rng)
    fixed, disp = fixed[..., :2, :3, :3], disp[..., :2, :3, :3]
    assert torch.autograd.gradcheck(lambda d: label_overlap(fixed, moving, d, LABELS), (disp,))


def test_a_field_that_leads_out_of_the_moving_scan_sees_no_label(rng: torch.Generator) -> None:
    fixed, moving, disp = case(rng)
    overlap, squares = label_overlap(fixed, moving, disp + 100, LABELS)
    (overlap + squares).sum().backward()
    assert not overlap.any()
    assert not squares.any()
    assert disp.grad is not None
    assert not disp.grad.any()


def test_a_scan_with_hundreds_of_labels_has_the_same_sums(rng: torch.Generator) -> None:
    fixed, moving, disp = case(rng)
    many = [*LABELS, *range(1000, 1400)]
    for few, some in zip(
        label_overlap(fixed, moving, disp, LABELS),
        label_overlap(fixed, moving, disp, many),
        strict=True,
    ):
        torch.testing.assert_close(some[:3], few)
        assert not some[3:].any()


def test_autocast_and_half_precision_change_what_the_field_cannot_hold(
    rng: torch.Generator,
) -> None:
    fixed, moving, disp = case(rng, torch.bfloat16)
    expected = label_overlap(fixed, moving, disp.float(), LABELS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        sums = label_overlap(fixed, moving, disp, LABELS)
        assert torch.equal(torch.stack(sums), torch.stack(expected))
        sums[0].sum().backward()
    assert disp.grad is not None
    assert disp.grad.dtype == torch.bfloat16


def test_a_position_that_is_no_number_lies_outside(rng: torch.Generator) -> None:
    fixed, moving, disp = case(rng, torch.float32)
    nowhere, outside = disp.detach().clone(), disp.detach().clone()
    nowhere[:, 1, 0], outside[:, :, 0] = float("nan"), -100.0
    for ours, expected in zip(
        label_overlap(fixed, moving, nowhere, LABELS),
        label_overlap(fixed, moving, outside, LABELS),
        strict=True,
    ):
        torch.testing.assert_close(ours, expected)
