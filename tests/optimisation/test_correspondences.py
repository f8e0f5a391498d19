import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from l2reg.features.local_contrast import LocalContrast
from l2reg.features.mind import Mind
from l2reg.optimisation.correspondences import KeypointMatcher, foerstner

SHAPE = (36, 32, 40)
FIND = KeypointMatcher(
    features=Mind(radius=1, dilation=1),
    min_distance=3,
    max_points=200,
    search_radius=3,
    patch_radius=2,
    consistency_tolerance=1.0,
)


def texture(seed: int = 0) -> torch.Tensor:
    noise = np.random.default_rng(seed).standard_normal(SHAPE)
    return torch.from_numpy(gaussian_filter(noise, 1.5) * 10)[None, None].float()


def batch_of(fixed: torch.Tensor, moving: torch.Tensor) -> dict[str, torch.Tensor]:
    mask = torch.zeros(1, 1, *SHAPE)
    mask[..., 8:-8, 8:-8, 8:-8] = 1
    return {"fixed": fixed, "moving": moving, "fixed_mask": mask}


def still() -> torch.Tensor:
    return torch.zeros(1, 3, *SHAPE)


def test_keypoints_are_apart_inside_the_mask_and_sorted() -> None:
    image, mask = texture(), batch_of(texture(), texture())["fixed_mask"]
    points = foerstner(image, mask, 3)
    assert len(points) > 20
    at = points.long()
    assert (mask[0, 0][at[:, 0], at[:, 1], at[:, 2]] == 1).all()
    apart = (points[:, None] - points).abs().amax(dim=2) + 1000 * torch.eye(len(points))
    assert apart.min() >= 3
    fewer = foerstner(image, mask, 6)
    assert len(fewer) < len(points)


def test_the_corner_of_a_block_is_more_distinctive_than_its_edge_or_face() -> None:
    image = torch.zeros(1, 1, 20, 22, 24)
    image[..., 8:, 9:, 10:] = 1
    (best, *_) = foerstner(image, torch.ones_like(image), 3)
    assert (best - torch.tensor([8.0, 9.0, 10.0])).abs().max() <= 1.5


def test_an_even_image_has_no_keypoints() -> None:
    even = torch.ones(1, 1, *SHAPE)
    fixed, moving = FIND(batch_of(even, even), still())
    assert fixed.shape == moving.shape == (0, 3)


@pytest.mark.parametrize("shift", [(2, -1, 3), (-3, 0, 1)])
def test_partners_of_a_shifted_scan_lie_where_it_was_shifted(shift: tuple[int, ...]) -> None:
    fixed = texture()
    moving = 2 * torch.roll(fixed, shift, (2, 3, 4))
    here, there = FIND(batch_of(fixed, moving), still())
    assert len(here) > 20
    error = (there - here - torch.tensor(shift)).norm(dim=1)
    assert error.median() < 0.1
    assert (error < 0.5).float().mean() > 0.95


def test_partners_are_found_to_a_fraction_of_a_voxel() -> None:
    fine = gaussian_filter(np.random.default_rng(0).standard_normal((72, 64, 80)), 3) * 30
    fixed, moving = (
        torch.from_numpy(fine[start::2, ::2, ::2])[None, None].float() for start in (1, 0)
    )
    find = KeypointMatcher(
        features=LocalContrast(radius=3, flat=1e-4),
        min_distance=4,
        max_points=200,
        search_radius=2,
        patch_radius=3,
        consistency_tolerance=1.0,
    )
    here, there = find(batch_of(fixed, moving), still())
    shift = (there - here).mean(dim=0)
    torch.testing.assert_close(shift, torch.tensor([0.5, 0.0, 0.0]), atol=0.1, rtol=0)


def test_a_field_extends_the_search() -> None:
    fixed = texture()
    moving = torch.roll(fixed, (7,), (2,))
    near = still()
    near[:, 0] = 6.0
    here, there = FIND(batch_of(fixed, moving), near)
    error = (there - here - torch.tensor([7.0, 0.0, 0.0])).norm(dim=1)
    assert len(here) > 20
    assert error.median() < 0.1


def test_scans_that_have_nothing_in_common_have_few_partners() -> None:
    n_found = [len(FIND(batch_of(texture(0), texture(seed)), still())[0]) for seed in (0, 1)]
    assert n_found[1] < 0.4 * n_found[0]


def test_patch_costs_are_mean_squared_differences() -> None:
    fixed, moving = texture(0), texture(1)
    here, there = torch.tensor([[12.0, 14.0, 20.0]]), torch.tensor([[13.0, 15.0, 18.0]])
    costs = FIND._patch_costs(fixed, here, moving, there)[0]
    offset = (2, -3, 1)
    patch = fixed[0, 0, 10:15, 12:17, 18:23]
    i, j, k = (int(c) + o for c, o in zip(there[0], offset, strict=True))
    other = moving[0, 0, i - 2 : i + 3, j - 2 : j + 3, k - 2 : k + 3]
    own = patch.square().mean()  # the same for all offsets: left out
    expected = (patch - other).square().mean() - own
    assert costs[2 + 3, -3 + 3, 1 + 3] == pytest.approx(float(expected), abs=1e-4)
