import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from l2reg.config import build, read_node
from l2reg.data.cases import Pair
from l2reg.data.dataset import Dataset
from l2reg.data.phantom import phantom_task
from l2reg.data.task import Files, Layout, Task
from l2reg.evaluation.evaluate import (
    PairScores,
    Truth,
    aggregate,
    as_json,
    can_be_scored,
    load_truth,
    score_field,
    score_submission,
    score_zero_field,
)
from l2reg.evaluation.metrics import determinant, sdlogj, upsample, warp_labels
from l2reg.evaluation.table import score_table
from l2reg.problems import InputError
from l2reg.submission.bundle import open_submission
from l2reg.submission.fields import to_submission, write_field

KINDS = {"0001": "zero", "0002": "small", "0003": "large", "0004": "translation", "0005": "violent"}


def scores(**changes: Any) -> PairScores:
    values = {"pair": "0001_0001", "dsc": {}, "hd95_voxels": {}, "tre_mm": [1.0, 3.0],
              "sdlogj": 0.1, "folds": 0.0, "det_range": (0.5, 1.5), **changes}  # fmt: skip
    return PairScores(**values)


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
    disp[0, 9:12] = 50.0  # label 4 is looked up outside
    found = score_field("x", disp, Truth((fixed, moving), None, None), task)
    assert found.dsc[1] == 1
    assert math.isnan(found.dsc[2])
    assert math.isnan(found.dsc[3])
    assert found.dsc[4] == 0
    assert found.hd95_voxels[4] == math.inf
    assert found.values()["dsc"] == 0.5
    assert found.values()["hd95_voxels"] == math.inf


def test_only_what_is_known_is_scored() -> None:
    assert set(scores().values()) == {"tre_mm", "sdlogj", "folds"}
    assert scores().values()["tre_mm"] == 2.0
    assert set(scores(tre_mm=[], dsc={1: 0.5}).values()) == {"dsc", "sdlogj", "folds"}


def test_aggregates_follow_the_2021_rules() -> None:
    three = [scores(pair=str(n), tre_mm=[v]) for n, v in enumerate((1.0, 2.0, 6.0))]
    tre = aggregate(three)["tre_mm"]
    assert tre["mean"] == 3.0
    assert tre["std"] == pytest.approx(np.std([1, 2, 6], ddof=1))
    assert tre["30"] == pytest.approx(np.quantile([1, 2, 6], 0.3))
    assert math.isnan(aggregate(three[:1])["tre_mm"]["std"])


def test_json_spells_out_what_json_has_no_number_for() -> None:
    content = as_json([scores(hd95_voxels={1: math.inf, 2: math.nan}, dsc={1: 0.0, 2: math.nan})])
    text = json.dumps(content, allow_nan=False)
    pair = json.loads(text)["pairs"]["0001_0001"]
    assert pair["hd95_voxels_by_label"] == {"1": "inf", "2": "nan"}
    assert pair["tre_mm_by_landmark"] == [1.0, 3.0]


def test_the_table_shows_means_spreads_and_folds_in_percent() -> None:
    rows = {
        "zero field": [scores(dsc={1: 0.5}, tre_mm=[]), scores(dsc={1: 0.7}, tre_mm=[])],
        "ours": [scores(dsc={1: 0.8}, tre_mm=[], folds=0.0125)] * 2,
    }
    head, zero, ours = score_table(rows).splitlines()
    assert head.split() == ["DSC", "DSC30", "SDlogJ", "folds", "%"]
    assert "0.6000 ± 0.1414  0.5600" in zero
    assert ours.split()[0] == "ours"
    assert ours.endswith("1.2500")


def test_a_submission_that_lacks_fields_is_refused_as_a_whole(
    phantoms: dict[str, Path], open_data: Callable[..., Dataset], tmp_path: Path
) -> None:
    task = phantom_task("lung", "small", 0, 3, root=phantoms["lung"])
    pairs = open_data(task).listed("val")
    field = np.zeros((3, 36, 32, 40), np.float16)
    write_field(tmp_path / "task_02", "0009_0009", field)
    with pytest.raises(InputError, match=r"1 missing: disp_0001_0001\.npz"):
        score_submission(open_submission(tmp_path, "task_02"), pairs, task)


@pytest.mark.parametrize("flavour", ["lung", "abdomen", "oasis"])
def test_the_true_field_scores_far_better_than_the_zero_field_after_the_whole_way(
    phantoms: dict[str, Path], open_data: Callable[..., Dataset], tmp_path: Path, flavour: str
) -> None:
    task = phantom_task(flavour, "small", 0, 3, root=phantoms[flavour])
    pair = open_data(task).listed("val")[0]
    true = np.load(phantoms[flavour] / task.folder / f"truth/disp_{pair.name}.npz")["arr_0"]
    (half,) = to_submission(torch.from_numpy(true.astype(np.float32))[None], task.grid)
    write_field(tmp_path / task.folder, pair.name, half)
    (submitted,) = score_submission(open_submission(tmp_path, task.folder), [pair], task)
    before, after = score_zero_field(pair, task).values(), submitted.values()
    if flavour == "lung":
        assert before["tre_mm"] > 15
        assert after["tre_mm"] < 0.3
    else:
        assert after["dsc"] > before["dsc"] + 0.15
        assert after["hd95_voxels"] < before["hd95_voxels"]
    assert after["folds"] == 0


@pytest.fixture
def gold(golden: Path, open_data: Callable[..., Dataset]) -> Dataset:
    config = json.loads((golden / "eval_a/config.json").read_text())

    def files(side: int) -> Files:
        ending = f"GoldA_{{id:04}}_000{side}.nii.gz"
        return Files(modality="CT", image=f"imagesTr/{ending}", labels=f"labelsTr/{ending}",
                     mask=f"masksTr/{ending}")  # fmt: skip

    points = ["landmarksTr/GoldA_{id:04}_0000.csv", "landmarksTr/GoldA_{id:04}_0001.csv"]
    layout = Layout(folder="eval_a", fixed=files(0), moving=files(1), landmarks=points)
    task = replace(
        build(read_node("task", "lung")),
        name="gold",
        shape=config["shape"],
        spacing_mm=config["spacing_mm"],
        labels={label: str(label) for label in config["labels"]},
        layouts={"2021": layout},
    )
    return open_data(task, golden)


def close(ours: float, official: float | str, tolerance: float) -> None:
    np.testing.assert_allclose(ours, float(official), rtol=0, atol=tolerance)


@pytest.mark.golden
def test_the_official_values_of_half_resolution_submissions(golden: Path, gold: Dataset) -> None:
    expected = json.loads((golden / "eval_a/expected.json").read_text())["half"]
    config = json.loads((golden / "eval_a/config.json").read_text())
    task, pairs = gold.release.task, gold.listed("val")
    assert [pair.fixed.id for pair in pairs] == [1, 2, 3, 4, 5]
    found = []
    for pair in pairs:
        official = expected["cases"][f"{pair.fixed.id:04}"]
        field = np.load(golden / f"eval_a/fields_half/disp_{pair.name}.npz")["arr_0"]
        truth, disp = load_truth(pair, task), upsample(field)
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
        zero = official["kind"] == "zero"
        close(ours.sdlogj, official["sdlogj_masked"], 1e-12 if zero else 1e-6)
        det = determinant(disp)
        close(sdlogj(det), official["sdlogj"], 1e-12 if zero else 1e-6)
        np.testing.assert_allclose(ours.tre_mm, official["tre_mm"], rtol=0, atol=1e-5)
        close(ours.values()["tre_mm"], official["tre_mean_mm"], 1e-5)
        folds = official["folds"]
        assert round(ours.folds * det.size) == folds["crop1_count"]
        assert det.size == folds["crop1_voxels"]
        inner = det[1:-1, 1:-1, 1:-1]
        assert int((inner <= 0).sum()) == folds["crop2_count"]
        close(inner.min(), official["jacobian_det_crop2"]["min"], 1e-5)
        close(inner.max(), official["jacobian_det_crop2"]["max"], 1e-5)
        close(inner.mean(), official["jacobian_det_crop2"]["mean"], 1e-5)
        assert truth.labels is not None
        warped = warp_labels(truth.labels[1], disp)
        for label, count in official["warped_label_counts"].items():
            assert int((warped == int(label)).sum()) == count
    check_aggregates(found, expected["aggregates"])


def check_aggregates(found: list[PairScores], official: dict[str, dict[str, Any]]) -> None:
    ours = aggregate(found)
    for metric, name, tolerance in (
        ("dsc", "dsc_mean", 1e-12),
        ("hd95_voxels", "hd95_mean", 1e-9),
        ("sdlogj", "sdlogj_masked", 1e-6),
        ("tre_mm", "tre_mean_mm", 1e-5),
    ):
        close(ours[metric]["mean"], official[name]["mean"], tolerance)
        close(ours[metric]["std"], official[name]["std_ddof1"], tolerance)
        close(ours[metric]["30"], official[name]["q30"], tolerance)


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
    task = build(read_node("task", task_name))
    listed = open_data(task, real_data, pairs=real_data / pairs if pairs else None).listed("val")
    assert all(can_be_scored(pair, task) for pair in listed)
    zero = np.zeros((3, *task.grid), np.float32)
    found = [
        score_field(pair.name, zero, load_truth(pair, task), task, surfaces=False).values()[metric]
        for pair in listed
    ]
    np.testing.assert_allclose(found, expected, atol=5e-5)


@pytest.mark.data
def test_the_later_lung_layout_is_scored_without_its_images(
    real_data: Path, open_data: Callable[..., Dataset]
) -> None:
    task = build(read_node("task", "lung"))
    pairs = open_data(task, real_data / "l2r_later_layout").listed("val")

    def means(of: Callable[[Pair], Pair]) -> list[float]:
        return [score_zero_field(of(pair), task).values()["tre_mm"] for pair in pairs]

    landmarks = means(lambda pair: pair)
    np.testing.assert_allclose(landmarks, [20.180078, 15.600577, 8.141407], atol=1e-6)
    keypoints = means(lambda pair: replace(pair, landmarks=pair.keypoints))
    np.testing.assert_allclose(keypoints, [20.242239, 16.514453, 9.599363], atol=1e-6)
    official = aggregate([score_zero_field(pair, task) for pair in pairs])["tre_mm"]
    assert official["mean"] == pytest.approx(14.640687281164565, abs=1e-9)
    assert official["std"] == pytest.approx(6.076466197213967, abs=1e-9)
    assert official["30"] == pytest.approx(12.616909057653364, abs=1e-9)
