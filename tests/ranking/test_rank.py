import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import gmean

from l2reg.problems import InputError
from l2reg.ranking.rank import METHODS, RankingMethod, TaskScores, official_better_counts, rank

TABLES = ["table1", "table2", "table3"]


def golden_task(path: Path, key: str) -> TaskScores:
    table = np.load(path)
    n_teams, n_pairs = table[f"{key}_sdlogj"].shape
    nothing = np.empty((n_teams, n_pairs, 0))
    return TaskScores(
        name=key,
        number=int(key[-1]),
        teams=table["teams"].tolist(),
        pairs=[str(n) for n in range(n_pairs)],
        dsc=table.get(f"{key}_dice", nothing),
        hd95_voxels=table.get(f"{key}_hd95", nothing),
        tre_mm=table.get(f"{key}_tre", nothing),
        sdlogj=table[f"{key}_sdlogj"],
        runtime_s=table[f"{key}_runtime"],
    )


def make_tasks(
    random: np.random.Generator, *, n_teams: int = 4, n_pairs: int = 8
) -> list[TaskScores]:
    """Return tasks 1 and 2 of teams in ascending order of quality; the zero field is worst."""
    step = np.arange(n_teams)[:, None, None]
    tasks = []
    for number, n_labels, n_landmarks in ((1, 5, 0), (2, 0, 12)):
        noise = random.uniform(-0.02, 0.02, (n_teams, n_pairs, 12))
        quality = 0.2 * step + noise
        seconds = 100.0 - 20.0 * quality[:, :, 0]
        sdlogj = 1.0 - quality[:, :, 1]
        seconds[0], sdlogj[0] = np.nan, np.nan
        tasks.append(
            TaskScores(
                name=f"task{number}",
                number=number,
                pairs=[str(n) for n in range(n_pairs)],
                teams=["zero field", *(f"team {n}" for n in range(1, n_teams))],
                dsc=quality[:, :, :n_labels] + 0.1,
                hd95_voxels=8 - 5 * quality[:, :, :n_labels],
                tre_mm=20 - 10 * quality[:, :, :n_landmarks],
                sdlogj=sdlogj,
                runtime_s=seconds,
            )
        )
    return tasks


def select_teams(task: TaskScores, order: list[int], **changes: Any) -> TaskScores:
    """Return the scores of these teams only."""
    arrays = ("dsc", "hd95_voxels", "tre_mm", "sdlogj", "runtime_s")
    own = {name: getattr(task, name)[order] for name in arrays}
    return replace(task, teams=[task.teams[n] for n in order], **own, **changes)


@pytest.mark.golden
@pytest.mark.parametrize("key", ["task1", "task2", "task3"])
@pytest.mark.parametrize("table", TABLES)
def test_better_counts_and_rank_scores_are_the_organisers(
    table: str, key: str, golden: Path
) -> None:
    expected = json.loads((golden / "ranking/expected.json").read_text())[table]["tasks"][key]
    task = golden_task(golden / f"ranking/{table}.npz", key)
    better = official_better_counts(task, np.ones((1, len(task.pairs))))
    ranked = rank([task], "official", resamples=1).tasks[key]
    assert list(ranked.names) == expected["columns_in_task_score"]
    assert set(better) == set(ranked.columns) == set(ranked.names)
    for name, known in expected["metrics"].items():
        if name == "dsc30_per_case":  # not part of the score
            continue
        assert better[name][0].tolist() == known["losses"]
        close(ranked.columns[name][0], known["rank_scores"])
    close(ranked.score[0], expected["task_score"])
    close(ranked.score_without_runtime[0], expected["task_score_without_runtime"])


@pytest.mark.golden
@pytest.mark.parametrize("table", TABLES)
def test_what_is_missing_is_filled_as_the_organisers_fill_it(table: str, golden: Path) -> None:
    known = json.loads((golden / "ranking/expected.json").read_text())[table]["tasks"]
    for key in known:
        filled = golden_task(golden / f"ranking/{table}.npz", key).fill_missing()
        for name, values in filled.items():
            means = np.abs(values).mean(axis=(1, 2))
            close(means, known[key]["metrics"][name]["mean"])


@pytest.mark.golden
@pytest.mark.parametrize("table", TABLES)
def test_overall_scores_are_the_organisers(table: str, golden: Path) -> None:
    expected = json.loads((golden / "ranking/expected.json").read_text())[table]
    tasks = [golden_task(golden / f"ranking/{table}.npz", key) for key in expected["tasks"]]
    ranking = rank(tasks, "official", resamples=1)
    close(ranking.score[0], expected["overall_score"])
    assert ranking.places[0, np.argmax(expected["overall_score"])] == 1


def close(actual: np.ndarray, expected: list[float]) -> None:
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_a_team_that_is_better_everywhere_is_first_in_every_resample(
    method: RankingMethod, random: np.random.Generator
) -> None:
    ranking = rank(make_tasks(random, n_pairs=12), method, resamples=50)
    assert ranking.places[0].tolist() == [4, 3, 2, 1]
    assert ranking.place_interval[:, 3].tolist() == [1, 1]
    assert ranking.place_kept[3] == 1
    assert ranking.score[0, 3] == pytest.approx(1)
    assert ranking.score[0, 0] == pytest.approx(0.1)


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_the_teams_does_not_matter(
    method: RankingMethod, random: np.random.Generator
) -> None:
    tasks = [replace(t, sdlogj=random.normal(size=t.sdlogj.shape)) for t in make_tasks(random)]
    order = [0, 3, 1, 2]
    one = rank(tasks, method, resamples=30)
    other = rank([select_teams(task, order) for task in tasks], method, resamples=30)
    np.testing.assert_allclose(one.score[:, order], other.score, rtol=1e-12)
    assert one.places[:, order].tolist() == other.places.tolist()


@pytest.mark.parametrize("method", METHODS)
def test_the_same_data_give_the_same_stability(
    method: RankingMethod, random: np.random.Generator
) -> None:
    tasks = [replace(t, dsc=random.random(t.dsc.shape)) for t in make_tasks(random)]
    one, other = (rank(tasks, method, resamples=40) for _ in range(2))
    assert one.places.tolist() == other.places.tolist()
    alone = rank(
        tasks[:1], method, resamples=40
    )  # what a task's pairs are does not depend on others
    np.testing.assert_array_equal(alone.tasks["task1"].score, one.tasks["task1"].score)


def test_a_place_that_hangs_on_few_pairs_is_unstable(random: np.random.Generator) -> None:
    task = make_tasks(random, n_teams=3, n_pairs=6)[0]
    noise = random.normal(scale=0.3, size=task.dsc.shape)
    even = replace(
        task,
        dsc=0.5 + noise,
        hd95_voxels=5 - noise,
        sdlogj=np.ones_like(task.sdlogj),
        runtime_s=np.full_like(task.runtime_s, np.nan),
    )
    ranking = rank([even], "official", resamples=200)
    low, high = ranking.place_interval
    assert (high > low).any()
    assert (ranking.place_kept < 1).any()
    assert ((low <= ranking.places[0]) & (ranking.places[0] <= high)).all()


def test_teams_without_a_task_tie_with_the_zero_field(random: np.random.Generator) -> None:
    tasks = []
    for task in make_tasks(random):
        arrays = {
            name: getattr(task, name).copy()
            for name in ("dsc", "hd95_voxels", "tre_mm", "sdlogj", "runtime_s")
        }
        for values in arrays.values():
            values[2] = np.nan
        tasks.append(replace(task, **arrays))
    ranking = rank(tasks, "official", resamples=5)
    assert (ranking.score[:, 2] == ranking.score[:, 0]).all()
    assert ranking.places[0].tolist() == [3, 2, 3, 1]
    assert tasks[0].submitted.tolist() == [True, True, False, True]


def test_missing_entries_are_worth_what_the_organisers_put(random: np.random.Generator) -> None:
    labelled, marked = make_tasks(random)
    for values in (labelled.dsc, labelled.sdlogj, labelled.runtime_s, marked.tre_mm):
        values[1, 0] = np.nan
    labelled.hd95_voxels[1, 0] = np.inf
    labelled.hd95_voxels[2] = np.inf  # all vanished: submitted all the same
    filled = labelled.fill_missing()
    for name, value in (("dsc", 0), ("hd95", -10), ("sdlogj", -5), ("runtime", -5000)):
        assert (filled[name][1, 0] == value).all()
        assert np.isfinite(filled[name]).all()
    assert (filled["hd95"][2] == -10).all()
    assert (marked.fill_missing()["tre"][1, 0] == -30).all()
    assert labelled.lacking == {"team 1": ["0"]}


@pytest.mark.parametrize("hard", [True, False])
def test_dsc30_and_tre30_see_only_what_was_hardest_at_first(
    hard: bool, random: np.random.Generator
) -> None:
    labelled, marked = (select_teams(task, [0, 0]) for task in make_tasks(random, n_pairs=20))
    overlap, distance = labelled.dsc, marked.tre_mm
    limits = np.quantile(overlap[0], 0.3), np.quantile(distance[0], 0.7, axis=1)[:, None]
    overlap[1] += 0.5 * ((overlap[0] < limits[0]) == hard)
    distance[1] -= 5 * ((distance[0] > limits[1]) == hard)
    expected = [1, 0] if hard else [0, 0]
    assert official_better_counts(labelled, np.ones((1, 20)))["dsc30"].tolist() == [expected]
    assert official_better_counts(marked, np.ones((1, 20)))["tre30"].tolist() == [expected]


def test_without_any_runtime_the_other_four_columns_rank(random: np.random.Generator) -> None:
    for task in make_tasks(random):
        timed = rank([task], "official", resamples=1).tasks[task.name]
        untimed = rank(
            [replace(task, runtime_s=np.full_like(task.runtime_s, np.nan))], "official", resamples=1
        ).tasks[task.name]
        assert timed.timed
        assert not untimed.timed
        np.testing.assert_array_equal(untimed.score, timed.score_without_runtime)
        four = [untimed.columns[name][0] for name in untimed.names if name != "runtime"]
        assert len(four) == 4
        np.testing.assert_allclose(untimed.score[0], gmean(four))


def test_landmarks_that_a_pair_lacks_do_not_count(random: np.random.Generator) -> None:
    task = make_tasks(random)[1]
    padded = np.concatenate([task.tre_mm, np.full_like(task.tre_mm, np.nan)], axis=2)
    for method in METHODS:
        one = rank([task], method, resamples=20)
        other = rank([replace(task, tre_mm=padded)], method, resamples=20)
        np.testing.assert_allclose(one.score, other.score)


def test_the_page_averages_over_structures_what_the_code_pools(random: np.random.Generator) -> None:
    """One label of five got far better, in every pair: one structure, but much of the pool."""
    task = select_teams(make_tasks(random)[0], [0, 1])
    dsc = np.broadcast_to(task.dsc[:1], task.dsc.shape).copy()
    dsc[1, :, 0] += 0.5
    changed = replace(task, dsc=dsc)
    official, page = (rank([changed], m, resamples=1).tasks["task1"].columns for m in METHODS)
    assert official["dsc"][0].tolist() == pytest.approx([0.55, 0.55])
    assert page["dsc"][0] == pytest.approx([(4 * 0.55 + 0.1) / 5, (4 * 0.55 + 1.0) / 5])
    assert page["dsc30"][0] == pytest.approx([0.1, 1.0])


def test_the_page_knows_no_tre30(random: np.random.Generator) -> None:
    task = make_tasks(random)[1]
    assert rank([task], "page", resamples=1).tasks["task2"].names == ("tre", "sdlogj", "runtime")


def test_no_resamples_are_refused(random: np.random.Generator) -> None:
    with pytest.raises(InputError, match="resamples: are too few"):
        rank(make_tasks(random), "official", resamples=0)
