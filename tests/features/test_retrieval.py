import torch

from l2reg.features.retrieval import retrieval_rate

SHAPE = (14, 12, 13)
SHIFT = torch.tensor([2.0, -1.0, 3.0])


def maps(rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Random features, and the same features shifted by SHIFT."""
    fixed = torch.randn(2, 4, *SHAPE, generator=rng)
    return fixed, fixed.roll((2, -1, 3), dims=(2, 3, 4))


def points(rng: torch.Generator) -> torch.Tensor:
    return torch.stack([torch.randint(4, 9, (2, 20), generator=rng) for _ in range(3)], 2).float()


def test_points_of_shifted_features_are_found_again_at_their_true_positions_alone(
    rng: torch.Generator,
) -> None:
    features, fixed = maps(rng), points(rng)
    true, wrong = fixed + SHIFT, fixed + SHIFT.flip(0)
    assert retrieval_rate(features, (fixed, true), radius=3, max_error=0.5).tolist() == [1, 1]
    assert retrieval_rate(features, (fixed, wrong), radius=3, max_error=1.0).tolist() == [0, 0]


def test_the_tolerance_is_a_distance_in_voxels(rng: torch.Generator) -> None:
    features, fixed = maps(rng), points(rng)
    near = fixed + SHIFT - torch.tensor([0.9, 0.9, 0.0])  # 1.27 voxels away
    for max_error, found in ((1.2, [0, 0]), (1.3, [1, 1])):
        pair = (fixed, near)
        assert retrieval_rate(features, pair, radius=3, max_error=max_error).tolist() == found


def test_points_that_moved_out_of_their_cubes_do_not_count(rng: torch.Generator) -> None:
    features, fixed = maps(rng), points(rng)
    moved = fixed + SHIFT
    moved[0, :15] += 4
    rates = retrieval_rate(features, (fixed, moved), radius=3, max_error=0.5)
    assert rates.tolist() == [1, 1]


def test_nothing_is_found_outside_the_moving_scan(rng: torch.Generator) -> None:
    """Beyond the border the features of the border repeat, which no candidate may win by."""
    features, _ = maps(rng)
    corner = torch.zeros(2, 1, 3)
    found = retrieval_rate((features, features), (corner, corner), radius=2, max_error=0.5)
    assert found.tolist() == [1, 1]
