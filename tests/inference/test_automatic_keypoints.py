import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from l2reg.data.dataset import Dataset
from l2reg.geometry.warp import sample_at_points
from l2reg.inference.automatic_keypoints import write_keypoints
from l2reg.inference.predictor import Predictor
from l2reg.inference.prepare import training_free_method
from l2reg.phantom.make import phantom_task
from l2reg.problems import InputError

OpenData = Callable[..., Dataset]
CPU = torch.device("cpu")


@pytest.fixture
def data(phantoms: dict[str, Path], tmp_path: Path, open_data: OpenData) -> Dataset:
    """Return lungs whose keypoints are gone, but for those of the last training pair."""
    root = tmp_path / "lungs"
    shutil.copytree(phantoms["lung"], root)
    task = phantom_task("lung", "small", 0, 3, root=root)
    for pair in open_data(task).training_set.intra_patient[:-1]:
        assert pair.keypoints is not None
        for path in pair.keypoints.paths:
            path.unlink()
    return open_data(task)


def test_pairs_without_keypoints_get_some_that_lie_where_the_true_field_leads(
    data: Dataset, open_data: OpenData
) -> None:
    n_without = sum(pair.keypoints is None for pair in data.training_set.intra_patient)
    method = training_free_method(data.task.name, CPU)
    written = write_keypoints(data, Predictor(method, data.reader))
    assert len(written) == n_without > 0
    again = open_data(data.task)
    assert all(pair.keypoints is not None for pair in again.training_set.intra_patient)
    pair = again.training_set.intra_patient[0]
    assert pair.keypoints is not None
    fixed, moving = (torch.from_numpy(p)[None].float() for p in pair.keypoints.read())
    assert fixed.shape[1] == written[pair.keypoints.paths[0]] > 30
    truth = np.load(data.release.folder / f"truth/disp_{pair.name}.npz")["arr_0"]
    field = torch.from_numpy(truth.astype(np.float32))[None]
    error = (fixed + sample_at_points(field, fixed) - moving).norm(dim=2)
    assert error.median() < 1.0


def test_where_nothing_is_missing_it_says_so(
    phantoms: dict[str, Path], open_data: OpenData
) -> None:
    data = open_data(phantom_task("lung", "small", 0, 3, root=phantoms["lung"]))
    with pytest.raises(InputError, match="no pair to find keypoints for"):
        write_keypoints(data, Predictor(training_free_method(data.task.name, CPU), data.reader))
