import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from l2reg.data.dataset import Dataset
from l2reg.evaluation.score_field import load_ground_truth, score_field, zero_field
from l2reg.inference.method import Method
from l2reg.inference.predictor import Predictor
from l2reg.losses.mse import MSE
from l2reg.losses.objective import Objective
from l2reg.models.zero import Zero
from l2reg.phantom.make import phantom_task
from l2reg.submission.rules import RULES
from l2reg.training.validation import Validation


def validation(data: Dataset) -> Validation:
    predictor = Predictor(Method(Zero("half")), data.reader)
    return Validation(
        predictor, data.split_pairs("val"), Objective({"similarity": MSE()}, {"similarity": 1.0})
    )


@pytest.mark.parametrize(
    ("flavour", "metric", "sign"), [("lung", "tre_mm", -1), ("oasis", "dsc", 1)]
)
def test_scores_are_the_official_ones_and_better_is_larger(
    phantoms: dict[str, Path],
    open_data: Callable[..., Dataset],
    flavour: str,
    metric: str,
    sign: int,
) -> None:
    data = open_data(phantom_task(flavour, "small", 0, 3, root=phantoms[flavour]))
    scores, quality = validation(data).score()
    (pair,), task = data.split_pairs("val"), data.release.task
    truth = load_ground_truth(pair, task, RULES["2021"])
    official = score_field(pair.name, zero_field(task), truth, task).values()
    assert scores[f"val/{metric}"] == pytest.approx(official[metric])
    assert quality == pytest.approx(sign * official[metric])
    assert "val/hd95_voxels" not in scores
    labels = [name for name in scores if name.startswith("val_dsc/")]
    assert labels == [f"val_dsc/{task.labels[label]}" for label in task.labels]
    if labels:
        known = [scores[name] for name in labels if not math.isnan(scores[name])]
        assert np.mean(known) == pytest.approx(scores["val/dsc"])


def test_without_labels_and_landmarks_the_loss_decides(
    lung_2021: Path, tiny_task: Callable[..., object], open_data: Callable[..., Dataset]
) -> None:
    (lung_2021 / "task_02/training/lms/case_001.txt").unlink()
    scores, quality = validation(open_data(tiny_task("lung"), lung_2021)).score()
    assert set(scores) == {"val/loss"}
    assert quality == -scores["val/loss"] < 0


def test_the_picture_is_of_the_first_pair(
    phantoms: dict[str, Path], open_data: Callable[..., Dataset]
) -> None:
    data = open_data(phantom_task("lung", "small", 0, 3, root=phantoms["lung"]))
    assert validation(data).draw().get_suptitle().startswith("0001_0001\n")
