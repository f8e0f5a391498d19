from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import center_of_mass

from l2reg.data.augment import Augment
from l2reg.geometry.warp import sample_at_points

SHAPE = (32, 28, 36)
ZERO_STRENGTH = {
    "flip_axes": [],
    "rotation_deg": 0.0,
    "scale": 0.0,
    "translation_mm": 0.0,
    "elastic_mm": 0.0,
    "elastic_spacing_mm": 30.0,
    "moving_strength": 0.0,
    "gain": 0.0,
    "noise": 0.0,
}


def blobs(centres: torch.Tensor) -> torch.Tensor:
    grid = torch.stack(torch.meshgrid(*[torch.arange(float(n)) for n in SHAPE], indexing="ij"))
    square = (grid - centres.view(3, 1, 1, 1)).square().sum(dim=0)
    return torch.exp(-square / 8)[None, None]


def sample() -> dict[str, torch.Tensor]:
    fixed_point, moving_point = torch.tensor([13.0, 15.0, 20.0]), torch.tensor([16.0, 12.0, 17.0])
    fixed, moving = blobs(fixed_point), blobs(moving_point)
    return {
        "fixed": fixed,
        "moving": moving,
        "fixed_mask": (fixed > 0.3).float(),
        "moving_mask": (moving > 0.3).float(),
        "fixed_labels": (fixed > 0.3).to(torch.int16) * 7,
        "moving_labels": (moving > 0.3).to(torch.int16) * 7,
        "fixed_points": fixed_point.view(1, 1, 3),
        "moving_points": moving_point.view(1, 1, 3),
        "spacing_mm": torch.tensor([[1.75, 1.25, 2.5]]),
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"rotation_deg": 20.0},
        {"scale": 0.2},
        {"translation_mm": 6.0},
        {"elastic_mm": 2.5},
        {"flip_axes": [0, 1, 2]},
        {"flip_axes": [0, 2], "rotation_deg": 10.0, "scale": 0.1, "translation_mm": 4.0,
         "moving_strength": 1.0, "elastic_mm": 2.0},
    ],
)  # fmt: skip
def test_images_labels_masks_and_points_move_together(changes: dict[str, object]) -> None:
    augment = Augment(**{**ZERO_STRENGTH, **changes})  # type: ignore[arg-type]
    moved_at_all = False
    for seed in range(6):
        moved = augment(sample(), np.random.default_rng(seed))
        for side in ("fixed", "moving"):
            point = moved[f"{side}_points"][0, 0].numpy()
            centre = np.array(center_of_mass(moved[side][0, 0].numpy()))
            np.testing.assert_allclose(point, centre, atol=0.7)
            labels = moved[f"{side}_labels"][0, 0].numpy()
            np.testing.assert_allclose(center_of_mass(labels), centre, atol=0.7)
            assert set(np.unique(labels)) <= {0, 7}
            assert torch.equal(moved[f"{side}_mask"], (moved[f"{side}_labels"] == 7).float())
        moved_at_all |= not torch.equal(moved["fixed_points"], sample()["fixed_points"])
    assert moved_at_all


def test_a_shared_transform_keeps_the_motion_and_a_moving_strength_changes_it() -> None:
    def motion(moving_strength: float) -> torch.Tensor:
        augment = Augment(
            **{**ZERO_STRENGTH, "translation_mm": 5.0, "moving_strength": moving_strength}
        )  # type: ignore[arg-type]
        moved = augment(sample(), np.random.default_rng(3))
        return moved["moving_points"] - moved["fixed_points"]

    before = sample()["moving_points"] - sample()["fixed_points"]
    torch.testing.assert_close(motion(0.0), before, atol=1e-4, rtol=0)
    assert (motion(1.0) - before).abs().max() > 0.3


def point_positions(augment: Augment, side: str = "fixed", seeds: int = 60) -> np.ndarray:
    """Return where a point of a scan lies after each of many random transforms, in voxels."""
    start = {**sample(), "fixed_labels": torch.zeros(1, 1, *SHAPE, dtype=torch.int16)}
    drawn = [augment(start, np.random.default_rng(seed)) for seed in range(seeds)]
    return np.stack([each[f"{side}_points"][0, 0].numpy() for each in drawn])


def assert_uniform(values: np.ndarray, largest: float) -> None:
    """Check that the columns of ``values`` fill the range from ``-largest`` to ``largest``."""
    assert np.abs(values).max() <= largest * 1.001
    assert (values.max(axis=0) > 0.8 * largest).all()
    assert (values.min(axis=0) < -0.8 * largest).all()


SPACING = np.array([1.75, 1.25, 2.5])


def test_a_translation_fills_its_range_in_millimetres() -> None:
    augment = Augment(**{**ZERO_STRENGTH, "translation_mm": 6.0})  # type: ignore[arg-type]
    moved = point_positions(augment) - sample()["fixed_points"][0, 0].numpy()
    assert_uniform(moved * SPACING, 6.0)


def test_the_moving_scan_has_its_own_fraction_of_a_translation() -> None:
    augment = Augment(**{**ZERO_STRENGTH, "translation_mm": 4.0, "moving_strength": 0.5})  # type: ignore[arg-type]
    fixed, moving = (point_positions(augment, side) for side in ("fixed", "moving"))
    before = (sample()["moving_points"] - sample()["fixed_points"])[0, 0].numpy()
    assert_uniform((moving - fixed - before) * SPACING, 2.0)


def test_a_scale_fills_its_range_about_the_centre() -> None:
    augment = Augment(**{**ZERO_STRENGTH, "scale": 0.2})  # type: ignore[arg-type]
    centre = (np.array(SHAPE) - 1) / 2
    before = sample()["fixed_points"][0, 0].numpy() - centre
    assert_uniform(before / (point_positions(augment) - centre) - 1, 0.2)


def test_a_rotation_has_the_size_that_is_asked_for() -> None:
    augment = Augment(**{**ZERO_STRENGTH, "rotation_deg": 10.0})  # type: ignore[arg-type]
    centre = (np.array(SHAPE) - 1) / 2
    before = (sample()["fixed_points"][0, 0].numpy() - centre) * SPACING
    after = (point_positions(augment) - centre) * SPACING
    np.testing.assert_allclose(np.linalg.norm(after, axis=1), np.linalg.norm(before), rtol=1e-4)
    cosines = after @ before / (before @ before)
    angles = np.rad2deg(np.arccos(np.clip(cosines, -1, 1)))
    assert 10.0 < angles.max() < 10.0 * np.sqrt(3)


def test_an_elastic_displacement_has_the_size_that_is_asked_for() -> None:
    augment = Augment(**{**ZERO_STRENGTH, "elastic_mm": 2.0})  # type: ignore[arg-type]
    moved = point_positions(augment) - sample()["fixed_points"][0, 0].numpy()
    # Between its control points, linear interpolation makes it smaller
    assert (np.abs((moved * SPACING).std(axis=0) / 2.0 - 0.57) < 0.15).all()


def test_points_follow_the_deformation_to_a_tenth_of_a_voxel() -> None:
    # Images whose intensity is a coordinate: the warped image reads it at the moved point.
    grid = torch.stack(torch.meshgrid(*[torch.arange(float(n)) for n in SHAPE], indexing="ij"))
    augment = Augment(
        **{**ZERO_STRENGTH, "rotation_deg": 10.0, "scale": 0.2, "elastic_mm": 2.0,
           "flip_axes": [0, 1, 2]}  # type: ignore[arg-type]
    )  # fmt: skip
    before = sample()
    for seed in range(6):
        for axis in range(3):
            moved = augment(
                {**before, "fixed": grid[axis][None, None]}, np.random.default_rng(seed)
            )
            value = sample_at_points(moved["fixed"], moved["fixed_points"])[0, 0, 0]
            torch.testing.assert_close(value, before["fixed_points"][0, 0, axis], atol=0.1, rtol=0)


def test_a_gain_fills_its_range_and_each_scan_has_its_own() -> None:
    augment = Augment(**{**ZERO_STRENGTH, "gain": 0.3})  # type: ignore[arg-type]
    before = sample()
    gains = np.array([
        [float(after[side].max() / before[side].max()) for side in ("fixed", "moving")]
        for after in (augment(before, np.random.default_rng(seed)) for seed in range(60))
    ])  # fmt: skip
    assert_uniform(gains - 1, 0.3)
    assert abs(np.corrcoef(gains.T)[0, 1]) < 0.3


def test_strengths_of_zero_change_nothing() -> None:
    before, after = sample(), Augment(**ZERO_STRENGTH)(sample(), np.random.default_rng(0))  # type: ignore[arg-type]
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, atol=1e-5, rtol=0)


def test_gain_and_noise_touch_intensities_alone_and_each_scan_by_itself() -> None:
    augment = Augment(**{**ZERO_STRENGTH, "gain": 0.5, "noise": 0.1})  # type: ignore[arg-type]
    before, after = sample(), augment(sample(), np.random.default_rng(0))
    assert (after["fixed"] - before["fixed"]).std() > 0.05
    assert torch.equal(after["fixed_points"], before["fixed_points"])
    noise = [(after[side] - before[side])[before[side] < 1e-6] for side in ("fixed", "moving")]
    assert abs(float(noise[0].std()) - 0.1) < 0.01
    assert not torch.equal(noise[0][:50], noise[1][:50])


def test_everything_is_a_function_of_the_generator() -> None:
    augment = Augment(**{**ZERO_STRENGTH, "rotation_deg": 9.0, "noise": 0.1, "flip_axes": [1]})  # type: ignore[arg-type]
    a, b, c = (augment(sample(), np.random.default_rng(seed)) for seed in (4, 4, 5))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["fixed"], c["fixed"])


def test_rotations_turn_in_millimetres_not_in_voxels() -> None:
    # A ball in mm stays a ball in mm: second moments along the axes stay equal.
    augment = Augment(**{**ZERO_STRENGTH, "rotation_deg": 40.0})  # type: ignore[arg-type]
    spacing = np.array([1.0, 1.0, 2.0])
    grid = np.stack(np.meshgrid(*[np.arange(float(n)) for n in SHAPE], indexing="ij"))
    centre = (np.array(SHAPE) - 1) / 2
    offset_mm = (grid - centre[:, None, None, None]) * spacing[:, None, None, None]
    ball = torch.from_numpy(np.exp(-(offset_mm**2).sum(axis=0) / 32)).float()[None, None]
    start = {**sample(), "fixed": ball, "spacing_mm": torch.tensor([[1.0, 1.0, 2.0]])}
    turned = augment(start, np.random.default_rng(1))["fixed"]
    torch.testing.assert_close(turned, ball, atol=0.05, rtol=0)


def test_without_points_nothing_breaks() -> None:
    bare = {**sample(), "fixed_points": torch.zeros(1, 0, 3), "moving_points": torch.zeros(1, 0, 3)}
    augment = Augment(**{**ZERO_STRENGTH, "rotation_deg": 5.0, "flip_axes": [0]})  # type: ignore[arg-type]
    assert augment(bare, np.random.default_rng(0))["fixed_points"].shape == (1, 0, 3)


@pytest.mark.parametrize(
    ("name", "value"),
    [("flip_axes", [3]), ("rotation_deg", -1.0), ("scale", 1.0), ("translation_mm", -1.0),
     ("elastic_mm", -0.1), ("elastic_spacing_mm", 0.0), ("moving_strength", -1.0), ("gain", 1.0),
     ("noise", -0.1)],
)  # fmt: skip
def test_a_strength_that_makes_no_sense_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"data\.augment\.{name} must be "):
        Augment(**{**ZERO_STRENGTH, name: value})
