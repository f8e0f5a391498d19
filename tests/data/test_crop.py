from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from l2reg.data.crop import check_crop, random_crop

SHAPE, BOX = (6, 9, 7), (4, 5, 7)


def numbered_pair() -> dict[str, torch.Tensor]:
    """Return a pair whose values tell volume, channel and voxel, with a point in every voxel."""
    pair = {}
    names = ("fixed", "moving", "fixed_mask", "moving_mask", "fixed_labels", "moving_labels")
    for n, name in enumerate(names):
        channels = 2 if name in ("fixed", "moving") else 1
        values = torch.arange(channels * 6 * 9 * 7).view(1, channels, *SHAPE) + 1000 * n
        pair[name] = values if "labels" in name else values.float()
    points = torch.from_numpy(np.indices(SHAPE).reshape(3, -1).T.copy()).float()[None]
    return pair | {
        "fixed_points": points,
        "moving_points": points + torch.tensor([0.0, 1.5, 0.0]),
        "point_weights": torch.ones(points.shape[:2]),
        "label_weight": torch.tensor([0.3]),
        "spacing_mm": torch.tensor([[1.5, 1.0, 2.0]]),
        "prealign": torch.eye(3, 4)[None],
    }


def test_all_volumes_are_one_box_of_theirs_voxel_by_voxel() -> None:
    pair = numbered_pair()
    cropped = random_crop(pair, BOX, np.random.default_rng(3))
    corner = (pair["fixed_points"] - cropped["fixed_points"])[0, 0].int().tolist()
    assert corner != [0, 0, 0]
    for name in ("fixed", "moving", "fixed_mask", "moving_mask", "fixed_labels", "moving_labels"):
        whole, part = pair[name].numpy(), cropped[name].numpy()
        assert part.shape == (1, whole.shape[1], *BOX)
        assert part.dtype == whole.dtype
        for channel in range(whole.shape[1]):
            for i, j, k in np.ndindex(*BOX):
                at = (i + corner[0], j + corner[1], k + corner[2])
                assert part[0, channel, i, j, k] == whole[0, channel, at[0], at[1], at[2]]
    for name in ("label_weight", "spacing_mm"):
        assert torch.equal(cropped[name], pair[name])
    assert "prealign" not in cropped


def test_points_stay_at_their_anatomy_and_count_if_both_are_in_the_box() -> None:
    pair = numbered_pair()
    cropped = random_crop(pair, BOX, np.random.default_rng(3))
    rows = zip(cropped["fixed_points"][0].int().tolist(), pair["fixed_points"][0].int().tolist(),
               cropped["moving_points"][0].tolist(), cropped["point_weights"][0].tolist(),
               strict=True)  # fmt: skip
    counted = 0
    for (i, j, k), (a, b, c), moving, weight in rows:
        fixed_inside = all(0 <= x < n for x, n in zip((i, j, k), BOX, strict=True))
        moving_inside = all(0 <= x <= n - 1 for x, n in zip(moving, BOX, strict=True))
        assert weight == (fixed_inside and moving_inside)
        assert moving == [i, j + 1.5, k]
        if fixed_inside:
            assert cropped["fixed"][0, 1, i, j, k] == pair["fixed"][0, 1, a, b, c]
        counted += int(weight)
    assert counted == 4 * 3 * 7


def test_every_corner_that_fits_is_drawn_equally_often() -> None:
    rng = np.random.default_rng(0)
    pair = numbered_pair()
    corners = Counter(
        tuple((-random_crop(pair, BOX, rng)["fixed_points"][0, 0]).int().tolist())
        for _ in range(600)
    )
    assert set(corners) == {(i, j, 0) for i in range(3) for j in range(5)}
    assert max(corners.values()) < 3 * min(corners.values())


def test_an_axis_that_is_shorter_than_the_box_stays_whole() -> None:
    cropped = random_crop(numbered_pair(), (90, 90, 90), np.random.default_rng(0))
    assert torch.equal(cropped["fixed"], numbered_pair()["fixed"])


@pytest.mark.parametrize("shape", [[64, 64], [64, 64, 1], [64, 64, 6.5], 64, "all"])
def test_a_box_that_is_none_is_refused(shape: Any) -> None:
    with pytest.raises(
        ValueError, match=r"data\.crop must be null or three sizes of 2 voxels or more"
    ):
        check_crop(shape)
