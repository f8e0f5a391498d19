import json
import math
from collections.abc import Callable

import numpy as np
import pytest

from l2reg.evaluation.pair_scores import PairScores, from_json
from l2reg.io.files import strict_json

Make = Callable[..., PairScores]


def test_only_what_is_known_has_a_value(pair_scores: Make) -> None:
    assert pair_scores().values() == {"tre_mm": 2.0, "sdlogj": 0.1, "folds": 0.0}
    labelled = pair_scores(tre_mm=[], dsc={1: 0.5, 2: math.nan})
    assert labelled.values() == {"dsc": 0.5, "sdlogj": 0.1, "folds": 0.0}
    assert "folded_volume" not in pair_scores(folded_volume=math.nan).all_values()


def test_absent_labels_are_skipped_and_vanished_ones_make_the_mean_infinite(
    pair_scores: Make,
) -> None:
    score = pair_scores(
        dsc={1: 0.5, 2: math.nan, 3: 0.0}, hd95_voxels={1: 2.0, 2: math.nan, 3: math.inf}
    )
    assert score.values()["dsc"] == 0.25
    assert score.values()["hd95_voxels"] == math.inf


def test_the_official_order_is_kept_and_what_officials_hide_follows(pair_scores: Make) -> None:
    score = pair_scores(dsc={1: 0.5}, hd95_voxels={1: 2.0}, hd95_mm={1: 3.0}, assd_mm={1: 1.0})
    names = list(score.all_values())
    assert names[:5] == ["dsc", "hd95_voxels", "tre_mm", "sdlogj", "folds"]
    assert {"hd95_mm", "assd_mm", "sd_log_det", "det_min", "det_max", "outside"} < set(names)
    assert list(score.by_label()) == ["dsc", "hd95_voxels", "hd95_mm", "assd_mm"]


def test_scores_survive_the_disk_and_json_has_no_nan(pair_scores: Make) -> None:
    score = pair_scores(
        dsc={1: 0.0, 2: math.nan}, hd95_voxels={1: math.inf, 2: math.nan}, hd95_mm={1: 1 / 3},
        tre_keypoints_mm=[0.1],
    )  # fmt: skip
    content = json.loads(strict_json(score.to_json()), parse_constant=pytest.fail)
    assert content["hd95_voxels"] == {"1": "inf", "2": None}
    assert content["means"]["tre_mm"] == 2.0
    restored = from_json(content)
    assert restored.change == score.change
    for name in ("dsc", "hd95_voxels", "hd95_mm", "assd_mm"):
        ours, theirs = getattr(score, name), getattr(restored, name)
        assert list(ours) == list(theirs)
        np.testing.assert_array_equal(list(ours.values()), list(theirs.values()))
    assert (restored.tre_mm, restored.tre_keypoints_mm) == ([1.0, 3.0], [0.1])


def test_a_lacking_entry_is_a_key_error(pair_scores: Make) -> None:
    content = pair_scores().to_json()
    del content["tre_mm"]
    with pytest.raises(KeyError, match="tre_mm"):
        from_json(content)
