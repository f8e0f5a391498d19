from collections.abc import Callable
from pathlib import Path

import numpy as np

from l2reg.data.dataset import Dataset
from l2reg.phantom.make import phantom_task
from l2reg.reporting.registered_pair import registered_pair


def test_a_picture_shows_the_moving_scan_through_the_field_and_its_mask(
    phantoms: dict[str, Path], open_data: Callable[..., Dataset]
) -> None:
    task = phantom_task("lung", "small", 0, 3, root=phantoms["lung"])
    data = open_data(task)
    pair = data.split_pairs("val")[0]
    true = np.load(phantoms["lung"] / f"task_02/truth/disp_{pair.name}.npz")["arr_0"]
    shown = registered_pair(pair, data.reader("full"), true.astype(np.float32))
    assert shown.orientation == "LPS"
    before = np.abs(shown.fixed - shown.moving).mean()
    assert np.abs(shown.fixed - shown.warped).mean() < 0.5 * before
    overlap = (shown.fixed_labels == 1) & (shown.warped_labels == 1)
    assert overlap.sum() > 0.9 * (shown.fixed_labels == 1).sum()


def test_beyond_the_moving_scan_a_picture_shows_air(
    phantoms: dict[str, Path], open_data: Callable[..., Dataset]
) -> None:
    data = open_data(phantom_task("abdomen", "small", 0, 3, root=phantoms["abdomen"]))
    reader, pair = data.reader("full"), data.split_pairs("val")[0]
    disp = np.zeros((3, *reader.shape), np.float32)
    disp[2] = 20
    warped = registered_pair(pair, reader, disp).warped
    assert (warped[:, :, -20:] == 0).all()
    assert (warped[:, :, -30:-20] > 0).mean() > 0.05


def test_landmarks_are_shown_with_what_is_left_of_their_distance(
    phantoms: dict[str, Path], open_data: Callable[..., Dataset]
) -> None:
    data = open_data(phantom_task("lung", "small", 0, 3, root=phantoms["lung"]))
    reader, pair = data.reader("full"), data.split_pairs("val")[0]
    disp = np.zeros((3, *reader.shape), np.float32)
    disp[1] = 2
    marks = registered_pair(pair, reader, disp).landmarks
    assert pair.landmarks is not None
    assert marks is not None
    table = np.loadtxt(pair.landmarks.paths[0], delimiter=",")
    assert np.allclose(marks.positions, table[:, :3])
    left = table[:, 3:] - table[:, :3] - [0, 2, 0]
    assert np.allclose(marks.residuals, left, atol=1e-3)
    lengths = np.linalg.norm(left * reader.task.spacing_mm, axis=1)
    assert np.allclose(marks.errors_mm, lengths, atol=1e-2)
