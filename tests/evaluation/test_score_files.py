import csv
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from l2reg.data.pairs import Pair, Scan
from l2reg.data.task import Task
from l2reg.evaluation.pair_scores import PairScores
from l2reg.evaluation.score_files import (
    read_scores,
    write_official,
    write_scores,
    write_tables,
)
from l2reg.evaluation.score_submissions import ZERO_FIELD, SubmissionScores
from l2reg.problems import InputError
from l2reg.submission.rules import RULES

Make = Callable[..., PairScores]
OLD, NEW = RULES["2021"], RULES["current"]


@pytest.fixture
def scored(pair_scores: Make) -> dict[str, SubmissionScores]:
    def pairs(*errors: float) -> list[PairScores]:
        return [pair_scores(f"{n:04}_{n:04}", tre_mm=[e, e]) for n, e in enumerate(errors, 1)]

    return {
        ZERO_FIELD: SubmissionScores(pairs(4.0, 6.0), []),
        "ours": SubmissionScores(pairs(1.0), ["0002_0002"], {"0001_0001": 0.5}),
    }


def test_scores_are_read_as_they_were_written(
    tmp_path: Path, tiny_task: Callable[..., Task], scored: dict[str, SubmissionScores]
) -> None:
    path = tmp_path / "out/scores.json"
    write_scores(path, tiny_task("lung"), OLD, scored)
    content, restored = read_scores(path)
    assert (content["task"], content["number"], content["rules"]) == ("lung", 2, "2021")
    assert restored == scored
    ours = content["submissions"]["ours"]
    assert ours["aggregates"]["tre_mm"]["mean"] == 1.0
    assert ours["thirty"]["tre30_worst_pairs"] == 1.0
    assert ours["pairs"]["0001_0001"]["means"]["tre_mm"] == 1.0


def test_the_files_tell_of_how_many_pairs_a_metric_is_known(
    tmp_path: Path, tiny_task: Callable[..., Task], pair_scores: Make
) -> None:
    pairs = [
        pair_scores("0001_0001"),
        pair_scores("0002_0002", tre_mm=[], dsc={1: 0.5}, hd95_voxels={1: 2.0}),
    ]
    scored = {ZERO_FIELD: SubmissionScores(pairs), "ours": SubmissionScores(pairs)}
    write_scores(tmp_path / "scores.json", tiny_task("lung"), OLD, scored)
    ours = read_scores(tmp_path / "scores.json")[0]["submissions"]["ours"]
    assert ours["pairs_with_value"] == {
        "dsc": 1, "hd95_voxels": 1, "tre_mm": 1, "sdlogj": 2, "folds": 2
    }  # fmt: skip
    assert (ours["aggregates"]["dsc"]["mean"], ours["aggregates"]["tre_mm"]["mean"]) == (0.5, 2.0)
    cases, labels = write_tables(tmp_path, scored)
    rows = list(csv.DictReader(cases.read_text().splitlines()))
    assert [(row["dsc"], row["tre_mm"]) for row in rows[:2]] == [("", "2.0"), ("0.5", "")]
    assert [row["dsc"] for row in csv.DictReader(labels.read_text().splitlines())] == ["0.5", "0.5"]


def test_no_file_has_a_bare_nan_and_scores_come_back(
    tmp_path: Path, tiny_task: Callable[..., Task], pairs: list[Pair], pair_scores: Make
) -> None:
    own = pair_scores(
        "0001_0001", dsc={1: math.nan, 2: 0.0}, hd95_voxels={1: math.nan, 2: math.inf}, tre_mm=[],
        sdlogj=math.nan,
    )  # fmt: skip
    scored = {
        name: SubmissionScores([own], seconds={"0001_0001": math.nan})
        for name in (ZERO_FIELD, "ours")
    }
    write_scores(tmp_path / "scores.json", tiny_task("abdomen"), OLD, scored)
    for rules in (OLD, NEW):
        path = tmp_path / f"official_{rules.name}.json"
        write_official(path, tiny_task("abdomen"), pairs, scored["ours"], rules)
    for path in tmp_path.glob("*.json"):
        json.loads(path.read_text(), parse_constant=pytest.fail)
    restored = read_scores(tmp_path / "scores.json")[1]["ours"]
    assert math.isnan(restored.seconds["0001_0001"])
    assert math.isnan(restored.pairs[0].dsc[1])
    assert restored.pairs[0].hd95_voxels[2] == math.inf
    assert math.isnan(restored.pairs[0].change.sdlogj)


@pytest.mark.parametrize("content", [None, "no json", "[]", '{"format": 1}', '{"format": 2}'])
def test_what_is_no_file_of_scores_is_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "scores.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match="cannot be read as scores") as error:
        read_scores(path)
    assert "l2reg evaluate task=" in str(error.value)


@pytest.fixture
def pairs() -> list[Pair]:
    def scan(number: int, path: str) -> Scan:
        return Scan(
            id=number, official_id=number, modality="CT", image=Path(path), labels=None, mask=None
        )

    return [
        Pair(
            fixed=scan(n, f"LungCT_{n:04}_0000.nii.gz"),
            moving=scan(n, f"LungCT_{n:04}_0001.nii.gz"),
        )
        for n in (1, 2)
    ]


def test_the_json_of_2021_has_the_organisers_names(
    tmp_path: Path, tiny_task: Callable[..., Task], pairs: list[Pair],
    scored: dict[str, SubmissionScores],
) -> None:  # fmt: skip
    write_official(tmp_path / "a.json", tiny_task("lung"), pairs, scored[ZERO_FIELD], OLD)
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["task_02"]["case"] == {
        "TRE": {"0": 4.0, "1": 6.0},
        "LogJacDetStd": {"0": 0.1, "1": 0.1},
    }
    assert content["task_02"]["aggregates"]["TRE"] == pytest.approx(
        {"mean": 5.0, "std": np.sqrt(2), "30": 4.6}
    )
    assert set(content["task_02"]["aggregates"]) == {"TRE", "LogJacDetStd"}


def test_the_current_json_has_the_organisers_names(
    tmp_path: Path, tiny_task: Callable[..., Task], pairs: list[Pair], pair_scores: Make
) -> None:
    scores = SubmissionScores([
        pair_scores(f"{n:04}_{n:04}", dsc={1: 0.5, 2: math.nan}, hd95_voxels={1: math.inf},
                    tre_mm=[1.0, 3.0], tre_keypoints_mm=[4.0]) for n in (1, 2)
    ])  # fmt: skip
    write_official(tmp_path / "a.json", tiny_task("lung"), pairs, scores, NEW)
    content = json.loads((tmp_path / "a.json").read_text())
    assert (content["name"], content["eval_version"]) == ("LungCT", "2.0")
    assert list(content["cases"]) == ["0001_0000<--0001_0001", "0002_0000<--0002_0001"]
    case = content["cases"]["0001_0000<--0001_0001"]
    assert case["TRE_lm"] == {"mean": 2.0, "detailed": [1.0, 3.0]}
    assert case["TRE_kp"] == {"mean": 4.0, "detailed": [4.0]}
    assert case["LogJacDetStd"] == {"mean": 0.1, "detailed": 0.1}
    assert case["HD95"] == {"mean": "inf", "detailed": ["inf"]}
    assert case["DSC"] == {"mean": 0.5, "detailed": [0.5, None]}
    assert content["aggregates"]["TRE_lm"] == {"mean": 2.0, "std": 0.0, "30": 2.0}


def test_the_tables_have_a_row_for_each_case_and_label(
    tmp_path: Path, pair_scores: Make, scored: dict[str, SubmissionScores]
) -> None:
    (path,) = write_tables(tmp_path, scored)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["submission"], row["pair"]) for row in rows] == [
        (ZERO_FIELD, "0001_0001"), (ZERO_FIELD, "0002_0002"), ("ours", "0001_0001")
    ]  # fmt: skip
    assert rows[2]["tre_mm"] == "1.0"
    assert (rows[0]["seconds"], rows[2]["seconds"]) == ("", "0.5")
    labelled = [pair_scores(dsc={3: 0.5, 4: 0.25}, hd95_voxels={3: 1.0, 4: math.inf})]
    _, path = write_tables(tmp_path, {"ours": SubmissionScores(labelled)})
    with path.open() as file:
        assert list(csv.DictReader(file))[1] == {
            "submission": "ours", "pair": "0001_0001", "label": "4", "dsc": "0.25",
            "hd95_voxels": "inf",
        }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [({"task": []}, r"'task': \[\]"), ({"number": -1}, "'number': -1"),
     ({"number": "2"}, "TypeError"), ({"rules": None}, "'rules': None"),
     ({"submissions": {}}, "no zero field")],
)  # fmt: skip
def test_scores_without_zero_field_or_task_are_refused(
    tmp_path: Path, change: dict[str, object], words: str
) -> None:
    path = tmp_path / "scores.json"
    good = {"format": 2, "task": "lung", "number": 2, "rules": "2021",
            "submissions": {ZERO_FIELD: {"pairs": {}, "missing": [], "seconds": {}}}}  # fmt: skip
    path.write_text(json.dumps(good))
    read_scores(path)
    path.write_text(json.dumps({**good, **change}))
    with pytest.raises(InputError, match=rf"(?s)scores\.json: cannot be read as scores.*{words}"):
        read_scores(path)
