import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l2reg.config.build import build
from l2reg.config.presets import load_preset
from l2reg.data.dataset import Dataset
from l2reg.data.pairs import Pair
from l2reg.data.task import Layout, ScanFiles, Task
from l2reg.evaluation.aggregate import aggregate
from l2reg.evaluation.metrics import dice, warp_labels
from l2reg.evaluation.pair_scores import PairScores
from l2reg.evaluation.score_field import (
    GroundTruth,
    has_ground_truth,
    load_ground_truth,
    score_field,
    zero_field,
)
from l2reg.evaluation.surface_distance import assd, hausdorff, surface_distances
from l2reg.evaluation.volume_change import determinants, volume_change
from l2reg.phantom.make import phantom_task
from l2reg.submission.fields import FullField, read_field, read_full_field
from l2reg.submission.half_resolution import upsample
from l2reg.submission.rules import RULES, Rules

OLD = RULES["2021"]


def nothing_known(labels: tuple[np.ndarray, np.ndarray] | None = None) -> GroundTruth:
    return GroundTruth(labels, None, None, None)


def test_absent_labels_are_skipped_and_vanished_ones_are_not(
    tiny_task: Callable[..., Task],
) -> None:
    task = tiny_task("abdomen")
    fixed, moving = np.zeros((12, 10, 14), np.int16), np.zeros((12, 10, 14), np.int16)
    fixed[2:5, 2:5, 2:5], moving[2:5, 2:5, 2:5] = 1, 1
    fixed[6:9, 2:5, 2:5] = 2  # not in the moving scan
    moving[6:9, 6:9, 6:9] = 3  # not in the fixed scan
    fixed[9:12, 6:9, 2:5], moving[9:12, 6:9, 9:12] = 4, 4
    disp = np.zeros((3, 12, 10, 14), np.float32)
    disp[0, 9:12] = 50.0  # label 4 is sampled outside
    found = score_field("x", disp, nothing_known((fixed, moving)), task)
    assert found.dsc[1] == 1
    assert math.isnan(found.dsc[2])
    assert math.isnan(found.dsc[3])
    assert found.dsc[4] == 0
    assert found.hd95_voxels[4] == math.inf
    assert found.values()["dsc"] == 0.5
    assert found.values()["hd95_voxels"] == math.inf


def blocks(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    fixed = np.zeros((12, 10, 14), np.int16)
    fixed[1:5, 1:6, 1:8], fixed[6:11, 2:9, 3:7], fixed[2:9, 3:5, 9:13] = 1, 2, 4
    moving = np.roll(fixed, 1, axis=2)
    moving[random.random(fixed.shape) > 0.97] = 2
    return fixed, moving


def test_labels_are_measured_as_if_alone_in_voxels_and_mm(
    tiny_task: Callable[..., Task], random: np.random.Generator
) -> None:
    task = tiny_task("abdomen", spacing_mm=(1.75, 1.25, 2.0))
    fixed, moving = blocks(random)
    disp = random.normal(0, 0.6, (3, 12, 10, 14)).astype(np.float32)
    found = score_field("x", disp, nothing_known((fixed, moving)), task)
    warped = warp_labels(moving, disp)
    assert set(found.dsc) == {1, 2, 3, 4}
    for label in (1, 2, 4):
        masks = fixed == label, warped == label
        in_mm = surface_distances(*masks, task.spacing_mm)
        assert found.dsc[label] == dice(fixed, warped, [label])[label]
        expected = hausdorff(*surface_distances(*masks, (1.0, 1.0, 1.0)), 95)
        assert found.hd95_voxels[label] == expected
        assert found.hd95_mm[label] == hausdorff(*in_mm, 95)
        assert found.assd_mm[label] == assd(*in_mm)
    isotropic = score_field(
        "x", disp, nothing_known((fixed, moving)), replace(task, spacing_mm=(2.0, 2.0, 2.0))
    )
    assert isotropic.hd95_mm[4] == 2 * isotropic.hd95_voxels[4] == 2 * found.hd95_voxels[4]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_flipping_everything_along_an_axis_changes_no_score(
    tiny_task: Callable[..., Task], random: np.random.Generator, axis: int
) -> None:
    task = tiny_task("abdomen")
    labels = blocks(random)
    disp = random.normal(0, 0.6, (3, 12, 10, 14))
    flipped = np.flip(disp, axis + 1).copy()
    flipped[axis] *= -1
    points = (random.uniform(1, 9, (5, 3)), random.uniform(1, 9, (5, 3)))
    mirrored = tuple(p.copy() for p in points)
    for p in mirrored:
        p[:, axis] = labels[0].shape[axis] - 1 - p[:, axis]
    one = score_field("x", disp, GroundTruth(labels, points, None, None), task)
    turned = (np.flip(labels[0], axis).copy(), np.flip(labels[1], axis).copy())
    two = score_field(
        "x", flipped, GroundTruth(turned, (mirrored[0], mirrored[1]), None, None), task
    )
    assert one.all_values() == pytest.approx(two.all_values(), rel=1e-6)


def test_a_label_that_the_task_does_not_score_changes_nothing(
    tiny_task: Callable[..., Task], random: np.random.Generator
) -> None:
    task = tiny_task("abdomen")
    fixed, moving = blocks(random)
    before = score_field("x", zero_field(task), nothing_known((fixed, moving)), task)
    fixed[fixed == 0], moving[moving == 0] = 99, -3
    after = score_field("x", zero_field(task), nothing_known((fixed, moving)), task)
    np.testing.assert_equal(after.dsc, before.dsc)
    np.testing.assert_equal(after.hd95_voxels, before.hd95_voxels)


def test_what_takes_long_is_left_out_on_request(
    tiny_task: Callable[..., Task], random: np.random.Generator
) -> None:
    task = tiny_task("abdomen")
    found = score_field(
        "x", zero_field(task), nothing_known(blocks(random)), task, slow_metrics=False
    )
    assert not found.hd95_voxels
    assert not found.assd_mm
    assert math.isnan(found.change.folded_volume)
    assert found.dsc[1] > 0


def test_the_rules_decide_on_keypoints_and_the_mask(
    phantoms: dict[str, Path], open_data: Callable[..., Dataset]
) -> None:
    task = phantom_task("lung", "small", 0, 3, root=phantoms["lung"])
    pair = open_data(task).split_pairs("val")[0]
    pair = replace(pair, keypoints=pair.landmarks)
    old, new = (load_ground_truth(pair, task, rules) for rules in (OLD, RULES["current"]))
    assert old.mask is not None
    assert old.keypoints is None
    assert new.keypoints is not None
    assert load_ground_truth(pair, replace(task, sdlogj_masked=["current"]), OLD).mask is None
    score = score_field(pair.name, zero_field(task), new, task)
    assert score.tre_keypoints_mm == score.tre_mm


@pytest.fixture
def gold(golden: Path, open_data: Callable[..., Dataset]) -> Dataset:
    config = json.loads((golden / "eval_a/config.json").read_text())

    def files(side: int) -> ScanFiles:
        ending = f"GoldA_{{id:04}}_000{side}.nii.gz"
        return ScanFiles(modality="CT", image=f"imagesTr/{ending}", labels=f"labelsTr/{ending}",
                     mask=f"masksTr/{ending}")  # fmt: skip

    points = ["landmarksTr/GoldA_{id:04}_0000.csv", "landmarksTr/GoldA_{id:04}_0001.csv"]
    layout = Layout(folder="eval_a", fixed=files(0), moving=files(1), landmarks=points)
    task = replace(
        build(load_preset("task", "lung")),
        name="gold",
        shape=tuple(config["shape"]),
        spacing_mm=tuple(config["spacing_mm"]),
        labels={label: str(label) for label in config["labels"]},
        sdlogj_masked=["2021", "current"],
        layouts={"2021": layout},
    )
    return open_data(task, golden)


def close(ours: float, official: float | str, tolerance: float) -> None:
    np.testing.assert_allclose(ours, float(official), rtol=0, atol=tolerance)


def submitted(golden: Path, rules: Rules, pair: Pair, task: Task) -> FullField:
    if rules.full_resolution:
        path = golden / f"eval_a/fields_full/disp_{pair.name}.nii.gz"
        return read_full_field(path.read_bytes(), path.name, task.shape)
    path = golden / f"eval_a/fields_half/disp_{pair.name}.npz"
    return upsample(read_field(path.read_bytes(), path.name, task.shape))


@pytest.mark.golden
@pytest.mark.parametrize(
    ("rules", "form", "precise"), [(OLD, "half", False), (RULES["current"], "full", True)]
)
def test_the_official_values_of_both_generations(
    golden: Path, gold: Dataset, rules: Rules, form: str, precise: bool
) -> None:
    """Tolerances are those that the values' own documentation states."""
    expected = json.loads((golden / "eval_a/expected.json").read_text())[form]
    config = json.loads((golden / "eval_a/config.json").read_text())
    task, pairs = gold.release.task, gold.split_pairs("val")
    assert [pair.fixed.id for pair in pairs] == [1, 2, 3, 4, 5]
    fine, rough = (1e-9, 1e-9) if precise else (1e-6, 1e-5)
    found = []
    for pair in pairs:
        official = expected["cases"][f"{pair.fixed.id:04}"]
        truth, disp = load_ground_truth(pair, task, rules), submitted(golden, rules, pair, task)
        ours = score_field(pair.name, disp, truth, task)
        found.append(ours)
        for label in task.labels:
            close(ours.dsc[label], official["dsc"][str(label)], 1e-12)
            close(ours.hd95_voxels[label], official["hd95"][str(label)], 1e-9)
        close(ours.values()["dsc"], official["dsc_mean"], 1e-12)
        close(ours.values()["hd95_voxels"], official["hd95_mean"], 1e-9)
        kept = config["labels_without_vanishing"]
        dsc = [ours.dsc[label] for label in kept if not math.isnan(ours.dsc[label])]
        close(float(np.mean(dsc)), official["dsc_mean_without_vanishing"], 1e-12)
        at_rest = 1e-12 if official["kind"] == "zero" else fine
        close(ours.change.sdlogj, official["sdlogj_masked"], at_rest)
        close(volume_change(disp).sdlogj, official["sdlogj"], at_rest)
        np.testing.assert_allclose(ours.tre_mm, official["tre_mm"], rtol=0, atol=rough)
        close(ours.values()["tre_mm"], official["tre_mean_mm"], rough)
        check_determinants(ours, determinants(disp), official, rough)
        assert truth.labels is not None
        warped = warp_labels(truth.labels[1], disp)
        for label, count in official["warped_label_counts"].items():
            assert int((warped == int(label)).sum()) == count
    check_aggregates(found, expected["aggregates"], rules, (1e-12, 1e-9, fine, rough))


def check_determinants(
    ours: PairScores, det: np.ndarray, official: dict[str, Any], tolerance: float
) -> None:
    folds, inner = official["folds"], det[1:-1, 1:-1, 1:-1]
    assert round(ours.change.folds * det.size) == folds["crop1_count"]
    assert det.size == folds["crop1_voxels"]
    assert int((inner <= 0).sum()) == folds["crop2_count"]
    for name in ("min", "max", "mean"):
        close(getattr(inner, name)(), official["jacobian_det_crop2"][name], tolerance)


def check_aggregates(
    found: list[PairScores],
    official: dict[str, dict[str, Any]],
    rules: Rules,
    tolerances: tuple[float, ...],
) -> None:
    ours = aggregate(found, rules)
    names = {"dsc": "dsc_mean", "hd95_voxels": "hd95_mean", "sdlogj": "sdlogj_masked",
             "tre_mm": "tre_mean_mm"}  # fmt: skip
    for (metric, name), tolerance in zip(names.items(), tolerances, strict=True):
        thirty = "official_now_30" if rules.full_resolution else "q30"
        close(ours[metric]["mean"], official[name]["mean"], tolerance)
        close(ours[metric]["std"], official[name][f"std_ddof{rules.ddof}"], tolerance)
        close(ours[metric]["30"], official[name][thirty], tolerance)


@pytest.mark.data
@pytest.mark.parametrize(
    ("task_name", "pairs", "metric", "expected"),
    [
        ("lung", None, "tre_mm", [6.2321]),
        ("oasis", None, "dsc", [0.4655]),
        ("abdomen", None, "dsc", [0.7697]),
        ("abdomen", "task_01/MRIs/pairs_val.csv", "dsc", [0.5177, 0.3756, 0.3502]),
    ],
)
def test_the_zero_fields_of_the_real_scans_score_as_their_readme_says(
    real_data: Path, open_data: Callable[..., Dataset], task_name: str, pairs: str | None,
    metric: str, expected: list[float],
) -> None:  # fmt: skip
    task = build(load_preset("task", task_name))
    listed = open_data(task, real_data, pairs=real_data / pairs if pairs else None).split_pairs(
        "val"
    )
    assert all(has_ground_truth(pair, task) for pair in listed)
    found = [zero_scores(pair, task, OLD).values()[metric] for pair in listed]
    np.testing.assert_allclose(found, expected, atol=5e-5)


@pytest.mark.slow
@pytest.mark.data
def test_the_later_lung_layout_is_scored_without_its_images(
    real_data: Path, open_data: Callable[..., Dataset]
) -> None:
    task = build(load_preset("task", "lung"))
    pairs = open_data(task, real_data / "l2r_later_layout").split_pairs("val")
    found = [zero_scores(pair, task, RULES["current"]) for pair in pairs]
    landmarks = [score.values()["tre_mm"] for score in found]
    np.testing.assert_allclose(landmarks, [20.180078, 15.600577, 8.141407], atol=1e-6)
    keypoints = [score.values()["tre_keypoints_mm"] for score in found]
    np.testing.assert_allclose(keypoints, [20.242239, 16.514453, 9.599363], atol=1e-6)
    official = aggregate(found, OLD)["tre_mm"]
    assert official["mean"] == pytest.approx(14.640687281164565, abs=1e-9)
    assert official["std"] == pytest.approx(6.076466197213967, abs=1e-9)
    assert official["30"] == pytest.approx(12.616909057653364, abs=1e-9)


def zero_scores(pair: Pair, task: Task, rules: Rules) -> PairScores:
    truth = load_ground_truth(pair, task, rules)
    return score_field(pair.name, zero_field(task), truth, task, slow_metrics=False)
