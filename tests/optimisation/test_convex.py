from itertools import product

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from l2reg.batch import Batch
from l2reg.features.local_contrast import LocalContrast
from l2reg.features.mind import Mind
from l2reg.geometry.compose import compose
from l2reg.geometry.warp import warp
from l2reg.optimisation.convex import Convex, coupled_convex, offsets, ssd_cost_volume
from l2reg.shapes import Image

SHAPE = (24, 20, 28)
COUPLINGS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


def texture(random: np.random.Generator, sigma: float = 1.5) -> Image:
    volume = gaussian_filter(random.normal(size=SHAPE), sigma, mode="wrap")
    scaled = (volume - volume.min()) / np.ptp(volume)
    return torch.from_numpy(scaled.astype(np.float32))[None, None]


def as_batch(fixed: Image, moving: Image) -> Batch:
    ones = torch.ones_like(fixed)
    return {"fixed": fixed, "moving": moving, "fixed_mask": ones, "moving_mask": ones}


def test_offsets_run_through_the_cube_last_axis_fastest() -> None:
    assert offsets(1).tolist() == [list(o) for o in product((-1, 0, 1), repeat=3)]
    assert len(offsets(3)) == 343


def test_costs_are_those_of_a_naive_loop(random: np.random.Generator) -> None:
    """Offsets that lead outside the moving mask cost the mean of the voxel's other offsets."""
    fixed, moving = (torch.from_numpy(random.normal(size=(1, 2, 4, 5, 3))).float() for _ in "ab")
    fixed_mask, moving_mask = torch.ones(2, 1, 1, 4, 5, 3)
    fixed_mask[..., 0] = 0
    moving_mask[..., 0, :, :] = 0
    costs = ssd_cost_volume(fixed, moving, (fixed_mask, moving_mask), 1)
    expected = np.zeros(costs.shape)
    for i, j, k in np.ndindex(4, 5, 3):
        known = {}
        for n, offset in enumerate(product((-1, 0, 1), repeat=3)):
            at = (i + offset[0], j + offset[1], k + offset[2])
            inside = all(0 <= x < size for x, size in zip(at, (4, 5, 3), strict=True))
            if inside and moving_mask[0, 0][at] > 0:
                difference = moving[0, :, at[0], at[1], at[2]] - fixed[0, :, i, j, k]
                known[n] = float((difference**2).sum())
        mean = np.mean(list(known.values()))
        for n in range(27):
            expected[0, n, i, j, k] = known.get(n, mean) * float(fixed_mask[0, 0, i, j, k])
    with_data = expected[..., 1:].mean()  # the first plane along k is masked
    np.testing.assert_allclose(costs.numpy(), expected / with_data, rtol=1e-4, atol=1e-6)


def test_a_minimum_between_offsets_is_found_below_a_voxel() -> None:
    wanted = torch.tensor([0.3, -1.2, 1.4])
    bowl = (offsets(2) - wanted).square().sum(dim=1)
    costs = bowl.view(1, -1, 1, 1, 1).expand(-1, -1, 4, 5, 6).contiguous()
    field = coupled_convex(costs, 2, COUPLINGS)
    for axis in range(3):
        torch.testing.assert_close(field[0, axis], torch.full((4, 5, 6), float(wanted[axis])))


def test_voxels_without_a_say_follow_their_neighbours() -> None:
    costs = torch.zeros(1, 27, 6, 6, 6)
    sure = (offsets(1) - torch.tensor([1.0, 0, -1])).square().sum(dim=1)
    costs[:, :, :3] = 5 * sure.view(1, -1, 1, 1, 1)
    field = coupled_convex(costs, 1, COUPLINGS)
    assert float(field[0, 0, 3].mean()) > 0.3
    assert float(field[0, 2, 3].mean()) < -0.3
    assert field[0, 1].abs().max() < 0.05


def test_where_everything_fits_equally_nothing_moves() -> None:
    assert coupled_convex(torch.zeros(1, 125, 4, 5, 6), 2, COUPLINGS).abs().max() == 0


@pytest.mark.parametrize(
    ("shift", "consistent"),
    [((0, 0, 0), False), ((0, -5, 0), False), ((3, -2, 4), False), ((3, -2, 4), True)],
)
def test_a_large_shift_is_found_and_the_moving_image_brought_back(
    random: np.random.Generator, shift: tuple[int, int, int], consistent: bool
) -> None:
    fixed = texture(random)
    moving = fixed.roll(shift, dims=(2, 3, 4))
    model = Convex("half", LocalContrast(2, 1e-4), [(2, 3), (1, 1)], 1, COUPLINGS, consistent, 15)
    disp = model(as_batch(fixed, moving)).disp
    inner = disp[0, :, 9:-9, 8:-8, 9:-9]
    for axis in range(3):
        assert float((inner[axis] - shift[axis]).abs().mean()) < 0.3
    before = float((fixed - moving)[..., 9:-9, 8:-8, 9:-9].abs().mean())
    after = float((fixed - warp(moving, disp))[..., 9:-9, 8:-8, 9:-9].abs().mean())
    assert after < 0.3 * before + 0.01


def test_both_directions_agree_where_they_were_brought_together(
    random: np.random.Generator,
) -> None:
    fixed = texture(random, 2.0)
    moving = fixed.roll((2, 1, -2), dims=(2, 3, 4))
    gaps = []
    for consistent in (False, True):
        model = Convex("half", Mind(1, 1), [(2, 3)], 1, COUPLINGS, consistent, 15)
        there = model(as_batch(fixed, moving)).disp
        back = model(as_batch(moving, fixed)).disp
        gaps.append(float(compose(back, there)[..., 4:-4, 4:-4, 4:-4].abs().mean()))
    assert gaps[1] < 0.5 * gaps[0] + 0.02


def test_a_level_finds_what_the_one_before_left(random: np.random.Generator) -> None:
    """Of a shift by 5 voxels the second of the levels sees 1, which the first cannot resolve."""
    fixed = texture(random, 2.5)
    moving = fixed.roll((5, -5, 5), dims=(2, 3, 4))
    errors = []
    for levels in ([(2, 2)], [(4, 1)], [(4, 1), (2, 1), (1, 1)]):
        model = Convex("half", LocalContrast(2, 1e-4), levels, 1, COUPLINGS, True, 15)
        assert model.capture_range == levels[0][0] * levels[0][1]
        inner = model(as_batch(fixed, moving)).disp[0, :, 9:-9, 8:-8, 9:-9]
        wanted = torch.tensor([5.0, -5.0, 5.0]).view(3, 1, 1, 1)
        errors.append(float((inner - wanted).abs().mean()))
    assert errors[2] < 0.3 < min(errors[:2])


def test_odd_sizes_and_batches_keep_their_shape_and_pairs_apart(
    random: np.random.Generator,
) -> None:
    pairs = [(texture(random)[..., :21, :19, :25], texture(random)[..., :21, :19, :25])
             for _ in range(2)]  # fmt: skip
    model = Convex("half", Mind(1, 1), [(3, 2)], 1, COUPLINGS, True, 15)
    alone = [model(as_batch(*pair)).disp for pair in pairs]
    fixed, moving = (torch.cat(images) for images in zip(*pairs, strict=True))
    together = model(as_batch(fixed, moving)).disp
    assert together.shape == (2, 3, 21, 19, 25)
    assert alone[0].shape == (1, 3, 21, 19, 25)


def test_it_has_nothing_to_train_and_says_what_it_cannot_do() -> None:
    assert not list(Convex("half", Mind(1, 2), [(4, 4)], 1, COUPLINGS, True, 15).parameters())
    for levels in ([], [(0, 4)], [(4, 4), (2,)]):
        with pytest.raises(ValueError, match="rows of stride and radius, 1 or more"):
            Convex("half", Mind(1, 2), levels, 1, COUPLINGS, True, 15)
