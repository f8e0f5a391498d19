from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from l2reg.ranking.rank import RankingMethod, TaskScores, rank
from l2reg.ranking.standings import ranking_text


def lung(n_pairs: int = 6, **changes: Any) -> TaskScores:
    """Three teams, each better than the one before."""
    level = np.array([9.0, 3.0, 1.0])
    noise = np.linspace(0, 0.1, n_pairs)
    task = TaskScores(
        name="lung",
        number=2,
        teams=["zero field", "good", "better"],
        pairs=[f"pair{n}" for n in range(n_pairs)],
        dsc=np.empty((3, n_pairs, 0)),
        hd95_voxels=np.empty((3, n_pairs, 0)),
        tre_mm=level[:, None, None] + noise[:, None] + np.linspace(0, 0.1, 4),
        sdlogj=np.array([np.nan, 0.3, 0.1])[:, None] + noise,
        runtime_s=np.array([np.nan, 5.0, 1.0])[:, None] + noise,
    )
    return replace(task, **changes)


def oasis(task: TaskScores) -> TaskScores:
    overlap = 1 - task.tre_mm / 10
    nothing = np.empty((*task.sdlogj.shape, 0))
    return replace(
        task, name="oasis", number=3, dsc=overlap, hd95_voxels=task.tre_mm, tre_mm=nothing
    )


def text(*tasks: TaskScores, method: RankingMethod = "official") -> str:
    return ranking_text(rank(tasks, method, resamples=20), tasks)


def test_a_task_shows_every_column_once_and_the_best_team_first() -> None:
    lines = text(lung()).splitlines()
    assert lines[0].split("  ")[0] == "lung (6 pairs)"
    headings = lines[0].removeprefix("lung (6 pairs)").split()
    assert headings == ["TRE", "x2", "TRE30", "SDlogJ", "runtime", "score", "without", "runtime"]
    assert lines[1].split() == ["better", *["1.000"] * 6]
    assert lines[2].split() == ["good", *["0.550"] * 6]
    assert lines[3].split() == ["zero", "field", *["0.100"] * 6]
    assert lines[5].split()[2:] == ["score", "place", "95", "%", "interval", "kept"]
    assert lines[6].split() == ["better", "1.000", "1", "1", "to", "1", "100%"]
    assert lines[-1].endswith("over 20 draws of the pairs")


def test_several_tasks_stand_beside_the_overall_score() -> None:
    said = text(lung(), oasis(lung()))
    assert "DSC  DSC30" in said
    (heading,) = [line for line in said.splitlines() if line.startswith("official ranking")]
    assert heading.split()[2:5] == ["lung", "oasis", "score"]


def test_a_task_without_runtimes_says_so_and_has_one_score() -> None:
    said = text(lung(runtime_s=np.full((3, 6), np.nan)))
    assert "lung: ranked by 4 columns, without runtime; no team has one" in said
    assert "without runtime" not in said.splitlines()[0]
    assert "without runtime;" not in text(lung())


def test_teams_that_lack_a_task_or_a_pair_are_named() -> None:
    task = lung()
    tre, sdlogj = task.tre_mm.copy(), task.sdlogj.copy()
    tre[1], sdlogj[1] = np.nan, np.nan
    tre[2, 3], sdlogj[2, 3] = np.nan, np.nan
    said = text(replace(task, tre_mm=tre, sdlogj=sdlogj))
    assert "lung: not submitted by good; ranked as the zero field" in said
    assert "lung: INCOMPLETE, the organisers would refuse it: better lacks pair3;" in said
    assert "zero field lacks" not in said


FEW = "too few pairs to tell teams apart"


def test_few_pairs_cannot_be_significant_by_the_pages_test() -> None:
    lines = [line for line in text(lung(5), method="page").splitlines() if FEW in line]
    assert [line.split(":")[0] for line in lines] == ["lung, TRE", "lung, SDlogJ", "lung, runtime"]
    assert all("p 0.062 at best" in line for line in lines)
    assert FEW not in text(lung(6), method="page")
    assert len([s for s in text(oasis(lung(5)), method="page").splitlines() if FEW in s]) == 4


def test_two_pairs_cannot_be_significant_by_the_official_test_of_one_value_a_pair() -> None:
    lines = [line for line in text(lung(2)).splitlines() if FEW in line]
    assert [line.split(":")[0] for line in lines] == [
        "lung, TRE30", "lung, SDlogJ", "lung, runtime"
    ]  # fmt: skip
    assert all("2 values a team has p 0.12 at best" in line for line in lines)
    assert FEW not in text(lung(3))
    untimed = text(lung(2, runtime_s=np.full((3, 2), np.nan)))
    assert "lung, runtime" not in untimed


@pytest.mark.parametrize(("method", "n_pairs"), [("official", 2), ("page", 5)])
def test_a_told_column_ties_all_teams_and_no_other_does(
    method: RankingMethod, n_pairs: int
) -> None:
    """Every team is better than the one before it in every value: only the test can tie them."""
    for n in (n_pairs, n_pairs + 1):
        task = lung(n)
        own = rank([task], method, resamples=1).tasks["lung"]
        tied = {name for name in own.names if len(set(own.columns[name][0].tolist())) == 1}
        told = {
            line.split(":")[0].removeprefix("lung, ").lower()
            for line in text(task, method=method).splitlines()
            if FEW in line
        }
        assert told == tied
