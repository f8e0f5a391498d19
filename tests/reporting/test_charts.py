import math
from collections.abc import Callable

import numpy as np

from l2reg.evaluation.pair_scores import PairScores
from l2reg.reporting.charts import box_figure, label_figure

Make = Callable[..., PairScores]


def test_every_metric_has_boxes_and_every_pair_a_dot(pair_scores: Make) -> None:
    rows = {
        "zero field": [pair_scores(tre_mm=[v]) for v in (5.0, 7.0, 9.0)],
        "ours": [pair_scores(tre_mm=[v]) for v in (1.0, math.inf, 2.0)],
    }
    cells = box_figure(rows).get_axes()
    assert [cell.get_xlabel() for cell in cells] == ["TRE mm", "SDlogJ", "folds %"]
    assert [tick.get_text() for tick in cells[0].get_yticklabels()] == ["zero field", "ours"]
    dots = [line.get_xdata() for line in cells[0].lines if line.get_marker() == "."]
    assert [sorted(d) for d in dots] == [[5, 7, 9], [1, 2]]


def test_the_label_map_shows_means_by_label_and_submission(pair_scores: Make) -> None:
    rows = {
        "zero field": [
            pair_scores(dsc={1: 0.2, 2: math.nan}),
            pair_scores(dsc={1: 0.4, 2: math.nan}),
        ],
        "ours": [pair_scores(dsc={1: 0.9, 2: math.nan})],
    }
    cell = label_figure(rows, {1: "liver"}).get_axes()[0]
    shown = np.asarray(cell.images[0].get_array())
    np.testing.assert_allclose(shown, [[0.3, 0.9], [np.nan, np.nan]])
    assert [text.get_text() for text in cell.texts] == ["0.30", "0.90", "nan", "nan"]
    assert [tick.get_text() for tick in cell.get_yticklabels()] == ["1 liver", "2 "]
