import base64
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from l2reg.reporting.registered_pair import Landmarks, RegisteredPair
from l2reg.reporting.viewer_data import ViewerData, planes, viewer_data

Shown = Callable[..., RegisteredPair]


def unpacked(data: ViewerData, layer: str) -> np.ndarray:
    """Return a volume from its mosaic, voxel by voxel as the page reads it."""
    content = base64.b64decode(data.layers[layer].partition(",")[2])
    pixels = np.asarray(Image.open(io.BytesIO(content)))
    i, j, k = data.view["shape"]
    columns, volume = data.view["columns"], np.zeros((i, j, k), np.uint8)
    for a in range(i):
        for b in range(j):
            for c in range(k):
                volume[a, b, c] = pixels[c // columns * j + b, c % columns * i + a]
    return volume


def test_volumes_come_out_of_the_mosaic_as_they_went_in(shown: Shown) -> None:
    smooth = np.linspace(0, 1, 12 * 10 * 14).reshape(12, 10, 14).astype(np.float32)
    pair = shown(fixed=smooth)
    data = viewer_data(pair)
    assert np.abs(unpacked(data, "fixed") - 255.0 * smooth).max() < 12  # of JPEG
    labels = unpacked(data, "fixed_labels")
    assert np.array_equal(labels, 1 * (pair.fixed_labels == 2) + 2 * (pair.fixed_labels == 7))
    assert np.array_equal(unpacked(data, "warped_labels"), np.roll(labels, 1, axis=2))
    assert data.view["labels"] == ["label 2", "liver <b>"]
    assert data.view["landmarks"] == [[4, 5, 6, 1, 0, -1, 2.5]]


def test_folds_are_zero_and_changes_of_volume_logarithmic(shown: Shown) -> None:
    stretched = np.zeros((3, 12, 10, 14), np.float32)
    stretched[1] = np.arange(10)[None, :, None]  # to twice the length along j
    volume = unpacked(viewer_data(shown(disp=stretched)), "volume")
    assert np.unique(volume).tolist() == [128 + round(127 / 1.5)]
    data = viewer_data(shown())
    folded = unpacked(data, "volume") == 0
    assert np.unique(np.nonzero(folded)[0]).tolist() == [5]  # determinant 1 + (-3 - 0) / 2
    assert data.folds == folded.sum() == 140


def test_large_pairs_are_reduced_and_no_fold_is_lost(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("l2reg.reporting.viewer_data._MAX_VOXELS", 300)
    random = np.random.default_rng(0)
    disp = np.zeros((3, 13, 10, 14), np.float32)
    disp[0, 7, 3, 5] = -4
    landmarks = Landmarks(random.uniform(0, 9, (5, 3)), np.ones((5, 3)), np.ones(5))
    pair = shown((13, 10, 14), disp=disp, landmarks=landmarks, spacing_mm=(1.0, 1.0, 1.5))
    data = viewer_data(pair)
    assert np.prod(data.view["shape"]) <= 300
    steps = np.array(data.view["spacing"]) / pair.spacing_mm
    assert data.folds >= 1
    assert unpacked(data, "volume").min() == 0
    rows = np.array(data.view["landmarks"])
    first = (steps - 1) / 2  # centre of the first block
    assert np.allclose(rows[:, :3] * steps + first, landmarks.positions, atol=0.05)
    assert np.allclose(rows[:, 3:6] * steps, 1, atol=0.05)


def test_the_grid_holds_the_field_at_its_nodes(shown: Shown) -> None:
    random = np.random.default_rng(0)
    disp = random.normal(size=(3, 30, 10, 14)).astype(np.float32)
    view = viewer_data(shown((30, 10, 14), disp=disp)).view["grid"]
    packed = np.frombuffer(base64.b64decode(view["disp"]), "<i2") * view["scale"]
    (ni, nj, nk), step = view["shape"], view["step"]
    assert (ni, nj, nk, step) == (15, 5, 7, 2)
    for component, i, j, k in ((0, 0, 0, 0), (2, 14, 3, 5), (1, 7, 4, 6)):
        at = packed[((component * nk + k) * nj + j) * ni + i]
        assert abs(at - disp[component, step * i, step * j, step * k]) < 0.006


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "LIA", "PSR"])
def test_left_is_right_and_head_and_face_are_up_in_every_orientation(orientation: str) -> None:
    opposite = dict(zip("LRAPSI", "RLPAIS", strict=True))

    def leads(plane: dict[str, Any], axis: str, flip: str) -> str:
        letter = orientation[plane[axis]]
        return opposite[letter] if plane[flip] else letter

    drawn = {plane["name"]: plane for plane in planes(orientation)}
    to_right = {name: leads(plane, "x", "flipX") for name, plane in drawn.items()}
    down = {name: leads(plane, "y", "flipY") for name, plane in drawn.items()}
    assert to_right == {"axial": "L", "coronal": "L", "sagittal": "P"}
    assert down == {"axial": "P", "coronal": "I", "sagittal": "I"}
    assert all(len({p["x"], p["y"], p["across"]}) == 3 for p in drawn.values())
    assert drawn["axial"]["ends"] == ["R", "L", "A", "P"]
    assert planes(None)[0]["ends"] == ["", "", "", ""]
