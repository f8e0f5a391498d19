import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from monai.losses import LocalNormalizedCrossCorrelationLoss

from l2reg.losses.local_ncc import LocalNCC, _LocalNCC, local_ncc
from l2reg.losses.objective import Aligned

SHAPE = (9, 10, 11)


@pytest.mark.parametrize(("gain", "offset"), [(1.0, 0.0), (3.0, -7.0), (-1.0, 0.0), (1.0, 1000.0)])
def test_blind_to_gain_offset_and_sign(gain: float, offset: float, rng: torch.Generator) -> None:
    fixed = torch.rand(2, 1, *SHAPE, generator=rng)
    assert local_ncc(fixed, gain * fixed + offset, window=5)[0].mean() > 0.999


def test_unrelated_images_score_low(rng: torch.Generator) -> None:
    fixed, other = (torch.rand(1, 1, *SHAPE, generator=rng) for _ in range(2))
    assert local_ncc(fixed, other, window=5)[0].mean() < 0.2


def test_a_naive_loop_agrees(rng: torch.Generator) -> None:
    fixed, warped = (torch.rand(1, 1, *SHAPE, generator=rng, dtype=torch.float64) for _ in range(2))
    fast = local_ncc(fixed, warped, window=3)[0][0, 0].numpy()
    a, b = fixed[0, 0].numpy(), warped[0, 0].numpy()
    for i, j, k in np.random.default_rng(0).integers(1, 8, (20, 3)):
        cube = (slice(i - 1, i + 2), slice(j - 1, j + 2), slice(k - 1, k + 2))
        expected = np.corrcoef(a[cube].ravel(), b[cube].ravel())[0, 1] ** 2
        assert abs(fast[i, j, k] - expected) < 1e-3


def test_gradients_of_both_images_are_those_of_finite_differences(rng: torch.Generator) -> None:
    shape = (1, 1, 2, 4, 7)
    fixed, warped = (torch.rand(shape, generator=rng, dtype=torch.float64) for _ in range(2))
    warped = 0.5 * fixed + 0.5 * warped
    fixed[..., 2, :2], warped[..., :2, 2:4] = 0.3, 0.4  # flat cubes
    weights = torch.rand(shape, generator=rng, dtype=torch.float64)
    centred = [image - image.mean(dim=(1, 2, 3, 4), keepdim=True) for image in (fixed, warped)]

    def weighted(*images: torch.Tensor) -> torch.Tensor:
        return (_LocalNCC.apply(*images, 3)[0] * weights).sum()

    assert torch.autograd.gradcheck(weighted, [image.requires_grad_() for image in centred])


@pytest.mark.parametrize("offset", [0.0, 10.0])
def test_float32_and_autocast_keep_value_and_gradient_of_float64(
    offset: float, rng: torch.Generator
) -> None:
    fixed, warped = (offset + torch.rand(1, 1, 15, 16, 17, generator=rng) for _ in range(2))
    results = []
    for dtype in (torch.float64, torch.float32):
        image = warped.to(dtype).requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = local_ncc(fixed.to(dtype), image, window=5)[0].sum()
        results.append((loss.double(), *(g.double() for g in torch.autograd.grad(loss, image))))
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-5)


def test_monai_agrees_inside(rng: torch.Generator) -> None:
    fixed = torch.rand(1, 1, 15, 16, 17, generator=rng)
    warped = 0.5 * fixed + 0.5 * torch.rand(1, 1, 15, 16, 17, generator=rng)
    monai = LocalNormalizedCrossCorrelationLoss(kernel_size=5, reduction="none")
    inner = (..., slice(3, -3), slice(3, -3), slice(3, -3))
    ours, _ = local_ncc(fixed, warped, window=5)
    torch.testing.assert_close(ours[inner], -monai(warped, fixed)[inner], atol=5e-3, rtol=0)


def textured_box(rng: torch.Generator) -> torch.Tensor:
    """Return a texture of 6 x 7 x 8 voxels in a background of 0."""
    image = torch.zeros(1, 1, 14, 15, 16)
    image[..., 4:10, 4:11, 4:12] = torch.rand(6, 7, 8, generator=rng)
    return image


def test_a_flat_cube_correlates_with_nothing_and_two_flat_cubes_do_not_count(
    rng: torch.Generator,
) -> None:
    fixed, flat = textured_box(rng), torch.full((1, 1, 14, 15, 16), 0.3)
    a, b = fixed[0, 0].numpy(), flat[0, 0].numpy()
    for first, second in ((fixed, flat), (flat, fixed)):
        similarity, structured = local_ncc(first, second, window=3)
        assert similarity.max() < 1e-6
        for i, j, k in np.ndindex(12, 13, 14):
            cube = (slice(i, i + 3), slice(j, j + 3), slice(k, k + 3))
            expected = max(a[cube].var(), b[cube].var()) > 1e-4
            assert bool(structured[0, 0, i + 1, j + 1, k + 1]) is bool(expected)
    assert not local_ncc(flat, flat, window=3)[1].any()


def test_looking_at_one_background_voxel_everywhere_is_as_bad_as_it_gets(
    aligned: Callable[..., Aligned], rng: torch.Generator
) -> None:
    fixed = textured_box(rng)
    moving = (0.8 * fixed + 0.1).roll(1, dims=3)
    towards_corner = -torch.stack(
        torch.meshgrid(*(torch.arange(n) for n in fixed.shape[2:]), indexing="ij")
    )[None].float()
    shifted, far = torch.zeros(2, 1, 3, *fixed.shape[2:])
    shifted[:, 1], far[:, 0] = 1, 5
    losses = [
        float(LocalNCC(window=5)(aligned(fixed, moving, disp)))
        for disp in (shifted, far, towards_corner)
    ]
    assert losses[0] < 1e-3
    assert losses[0] < losses[1] < 1.001
    assert losses[2] == pytest.approx(1)


def test_a_pair_in_a_batch_has_the_loss_it_has_alone_and_a_common_offset_changes_nothing(
    aligned: Callable[..., Aligned], rng: torch.Generator
) -> None:
    fixed, moving = (torch.rand(2, 1, *SHAPE, generator=rng) for _ in range(2))
    moving = 0.7 * fixed + 0.3 * moving
    offset = torch.tensor([0.0, 1000.0]).view(2, 1, 1, 1, 1)
    together = LocalNCC(window=5)(aligned(fixed + offset, moving + offset))
    for n in (0, 1):
        alone = LocalNCC(window=5)(aligned(fixed[n : n + 1], moving[n : n + 1]))[0]
        assert abs(together[n] - alone) < 1e-4


def test_the_similarity_never_exceeds_1(rng: torch.Generator) -> None:
    image = torch.rand(1, 1, *SHAPE, generator=rng)
    for gain in (1e-3, 0.02, 0.3, 1.0, 7.0):
        assert local_ncc(image, gain * image, window=3)[0].max() <= 1


def test_the_losses_with_several_windows_are_averaged(
    aligned: Callable[..., Aligned], rng: torch.Generator
) -> None:
    pair = aligned(*(torch.rand(2, 1, *SHAPE, generator=rng) for _ in range(2)))
    alone = [LocalNCC(window=edge)(pair) for edge in (3, 5, 7)]
    torch.testing.assert_close(
        LocalNCC(window=[3, 5, 7])(pair), (alone[0] + alone[1] + alone[2]) / 3
    )
    assert torch.equal(LocalNCC(window=[5])(pair), alone[1])
    assert not torch.allclose(alone[0], alone[2], rtol=1e-2)


@pytest.mark.parametrize("window", [0, 1, 4, [3, 4], []])
def test_the_window_must_be_odd_and_cover_neighbours(window: int | list[int]) -> None:
    with pytest.raises(ValueError, match=re.escape(f"got {window}")):
        LocalNCC(window=window)
