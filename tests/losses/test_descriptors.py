import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from l2reg.losses.descriptors import DescriptorContrast, class_contrast, position_contrast
from l2reg.models.descriptors import ViewDescriptors

SHAPE = (9, 11, 13)
SETTINGS = {
    "class_weight": 1.0, "position_weight": 1.0, "class_temperature": 0.3,
    "position_temperature": 0.1, "level_weights": [1.0, 0.5], "n_negatives": 5,
    "distances": (3.0, 6.0),
}  # fmt: skip


def unit(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def naive_class_contrast(points: np.ndarray, labels: np.ndarray, temperature: float) -> float:
    by_class: dict[int, list[float]] = {}
    for n, label in enumerate(labels):
        others = [m for m in range(len(labels)) if m != n]
        total = sum(np.exp(points[n] @ points[m] / temperature) for m in others)
        alike = [m for m in others if labels[m] == label]
        if alike:
            shares = [np.exp(points[n] @ points[m] / temperature) / total for m in alike]
            by_class.setdefault(int(label), []).append(-np.mean(np.log(shares)))
    weights = dict.fromkeys(by_class, 1.0)
    total_weight = sum(weights.values())
    return float(sum(np.mean(values) for values in by_class.values()) / total_weight)


def test_class_contrast_is_that_of_a_loop_over_points(random: np.random.Generator) -> None:
    points = unit(random.normal(size=(14, 4)))
    labels = np.array([0, 1, 1, 2, 2, 2, 2, 3, 0, 1, 2, 2, 1, 1])  # class 3 has one point alone
    expected = naive_class_contrast(points, labels, 0.3)
    found = class_contrast(torch.tensor(points)[None], torch.tensor(labels)[None], 0.3)
    assert float(found) == pytest.approx(expected)


def test_position_contrast_is_that_of_a_loop_over_points(random: np.random.Generator) -> None:
    points, same, others = (unit(random.normal(size=(6, *n, 4))) for n in ((), (), (3,)))
    losses = []
    for n in range(6):
        right = np.exp(points[n] @ same[n] / 0.2)
        losses.append(-np.log(right / (right + np.exp(others[n] @ points[n] / 0.2).sum())))
    tensors = (torch.tensor(values)[None] for values in (points, same, others))
    assert float(position_contrast(*tensors, 0.2)) == pytest.approx(float(np.mean(losses)))


def test_descriptors_are_taken_at_the_points_of_each_level(random: np.random.Generator) -> None:
    shapes = ((5, 6, 7), (3, 3, 4))  # half and quarter of SHAPE
    fixed, moving = ([random.normal(size=(3, *s)) for s in shapes] for _ in range(2))
    fixed_points = random.uniform(0, 8, (10, 3))
    moving_points = random.uniform(0, 8, (10, 3))
    labels = random.integers(0, 3, 10)
    expected = 0.0
    for level, weight in enumerate((1.0, 0.5)):
        sampled = np.concatenate(
            [
                [map_coordinates(c, points.T / 2 ** (level + 1), order=1) for c in maps[level]]
                for maps, points in ((fixed, fixed_points), (moving, moving_points))
            ],
            axis=1,
        ).T
        expected += weight * naive_class_contrast(unit(sampled), np.tile(labels, 2), 0.3)
    views = ViewDescriptors(*([torch.tensor(m).float()[None] for m in v] for v in (fixed, moving)))
    batch = {
        "fixed_points": torch.tensor(fixed_points).float()[None],
        "moving_points": torch.tensor(moving_points).float()[None],
        "point_labels": torch.tensor(labels)[None],
    }
    terms = DescriptorContrast(**SETTINGS)(views, batch)
    assert float(terms["classes"]) == pytest.approx(expected, rel=1e-4)


def test_other_positions_lie_in_the_shell_around_each_point() -> None:
    points = torch.tensor([[[5.0, 6.0, 7.0], [1.0, 2.0, 3.0]]])
    others = DescriptorContrast(**{**SETTINGS, "n_negatives": 300})._negatives(points)
    away = others.view(1, 2, 300, 3) - points[:, :, None]
    distance = away.norm(dim=3)
    assert float(distance.min()) >= 3
    assert float(distance.max()) <= 6
    assert float(away.mean(dim=2).abs().max()) < 1  # in all directions


def test_a_descriptor_that_changes_along_the_scan_beats_one_that_is_flat_there() -> None:
    angle = torch.arange(9.0) / 6
    line = torch.stack([angle.cos(), angle.sin()])[None, :, :, None, None]
    changing = line.expand(1, 2, 9, 9, 9)
    flat = torch.ones(1, 2, 9, 9, 9)
    points = torch.full((1, 20, 3), 8.0)
    batch = {"fixed_points": points, "moving_points": points,
             "point_labels": torch.zeros(1, 20, dtype=torch.long)}  # fmt: skip
    loss = DescriptorContrast(**SETTINGS)
    losses = [
        float(loss(ViewDescriptors([maps], [maps]), batch)["positions"])
        for maps in (changing, flat)
    ]
    assert losses[0] < losses[1]
    assert losses[1] == pytest.approx(np.log(6))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"class_weight": -1.0}, "must be 0 or more, got -1.0"),
        ({"position_temperature": 0.0}, "must be above 0, got 0.3, 0.0"),
        ({"distances": (6.0, 3.0)}, r"increasing, got 5, \[6.0, 3.0\]"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        DescriptorContrast(**{**SETTINGS, **changes})
