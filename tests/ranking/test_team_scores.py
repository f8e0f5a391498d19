import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l2reg.data.task import Task
from l2reg.evaluation.pair_scores import PairScores
from l2reg.evaluation.score_files import write_scores
from l2reg.evaluation.score_submissions import ZERO_FIELD, SubmissionScores
from l2reg.problems import InputError
from l2reg.ranking.team_scores import read_tasks
from l2reg.submission.rules import RULES

Write = Callable[..., Path]


@pytest.fixture
def write(
    tmp_path: Path, tiny_task: Callable[..., Task], pair_scores: Callable[..., PairScores]
) -> Write:
    """Write scores of teams with a given landmark error; the zero field is 9 mm off."""

    def write_file(
        name: str, teams: dict[str, float], pairs: str = "ab", rules: str = "2021", **changes: Any
    ) -> Path:
        def scores(error: float) -> list[PairScores]:
            made = {"tre_mm": [error, error + 1], "sdlogj": error / 100, **changes}
            return [pair_scores(pair, **made) for pair in pairs]

        scored = {ZERO_FIELD: SubmissionScores(scores(9.0))}
        for team, error in teams.items():
            scored[team] = SubmissionScores(scores(error), seconds={"a": error * 10})
        path = tmp_path / name
        task = tiny_task("lung" if changes.get("tre_mm") is None else "abdomen")
        write_scores(path, task, RULES[rules], scored)
        return path

    return write_file


LABELS = {
    "dsc": {1: 0.5, 2: math.nan},
    "hd95_voxels": {1: math.inf, 2: math.nan},
    "tre_mm": [],
}


def test_files_of_one_task_are_put_together_by_team(write: Write) -> None:
    (task,) = read_tasks([write("1.json", {"B": 2.0}), write("2.json", {"A": 1.0}, pairs="ba")])
    assert (task.name, task.number) == ("lung", 2)
    assert task.teams == [ZERO_FIELD, "B", "A"]
    assert task.pairs == ["a", "b"]
    assert task.tre_mm[:, 0].tolist() == [[9, 10], [2, 3], [1, 2]]
    np.testing.assert_array_equal(task.runtime_s, [[math.nan] * 2, [20, math.nan], [10, math.nan]])
    assert not task.labelled


def test_the_zero_fields_smoothness_does_not_count(write: Write) -> None:
    (task,) = read_tasks([write("1.json", {"A": 1.0})])
    assert np.isnan(task.sdlogj[0]).all()
    assert task.sdlogj[1].tolist() == [0.01, 0.01]


def test_a_team_that_a_task_lacks_has_nothing_there(write: Write) -> None:
    lung = write("lung.json", {"A": 1.0, "B": 2.0})
    abdomen = write("abdomen.json", {"C": 1.0, "A": 2.0}, **LABELS)
    first, second = read_tasks([lung, abdomen])
    assert [first.name, second.name] == ["abdomen", "lung"]
    assert first.teams == second.teams == [ZERO_FIELD, "A", "B", "C"]
    assert first.submitted.tolist() == [True, True, False, True]
    assert second.submitted.tolist() == [True, True, True, False]
    assert first.labelled
    np.testing.assert_array_equal(first.dsc[1], [[0.5, math.nan]] * 2)
    np.testing.assert_array_equal(first.hd95_voxels[3], [[math.inf, math.nan]] * 2)


def test_pairs_of_few_landmarks_and_missing_pairs_are_nan(
    tmp_path: Path, tiny_task: Callable[..., Task], pair_scores: Callable[..., PairScores]
) -> None:
    pairs = [pair_scores("a", tre_mm=[1.0, 2.0, 3.0]), pair_scores("b", tre_mm=[4.0])]
    scored = {
        ZERO_FIELD: SubmissionScores(pairs),
        "A": SubmissionScores(pairs[:1], missing=["b"]),
    }
    write_scores(tmp_path / "s.json", tiny_task("lung"), RULES["2021"], scored)
    (task,) = read_tasks([tmp_path / "s.json"])
    nan = math.nan
    np.testing.assert_array_equal(task.tre_mm, [[[1, 2, 3], [4, nan, nan]], [[1, 2, 3], [nan] * 3]])
    assert task.lacking == {"A": ["b"]}


def test_a_team_given_twice_is_refused_with_both_files(write: Write) -> None:
    paths = [write("1.json", {"A": 1.0, "B": 2.0}), write("2.json", {"A": 2.0})]
    with pytest.raises(InputError) as error:
        read_tasks(paths)
    (problem,) = error.value.problems
    assert problem.where == str(paths[1])
    assert problem.what == f"holds team A, which {paths[0]} also holds"
    assert "another name" in problem.remedy


def test_files_with_other_pairs_or_rules_are_refused_at_once(write: Write) -> None:
    paths = [
        write("1.json", {"A": 1.0}),
        write("2.json", {"B": 1.0}, pairs="bc"),
        write("3.json", {"C": 1.0}, rules="current"),
    ]
    with pytest.raises(InputError) as error:
        read_tasks(paths)
    said = [(p.where, p.what, p.expected, p.found) for p in error.value.problems]
    assert sorted(said) == [
        (str(paths[1]), f"has other pairs than {paths[0]}", "a, b", "b, c"),
        (str(paths[2]), f"was scored by other rules than {paths[0]}", "2021", "current"),
    ]


def test_another_truth_shows_in_the_zero_fields_scores(write: Write) -> None:
    first = write("1.json", {"A": 1.0}, **LABELS)
    for n, changed in enumerate(({1: 0.4, 2: math.nan}, {1: 0.5}, {1: 0.5, 3: math.nan})):
        second = write(f"other{n}.json", {"B": 1.0}, **{**LABELS, "dsc": changed})
        with pytest.raises(InputError) as error:
            read_tasks([first, second])
        assert f"{second}: was scored with other labels or landmarks" in str(error.value)
        assert "other scores for a, b" in str(error.value)


def test_a_file_that_holds_no_scores_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "no.json"
    path.write_text("{}")
    with pytest.raises(InputError, match="cannot be read as scores"):
        read_tasks([path])
