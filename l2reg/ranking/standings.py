"""Text tables of a ranking: rank scores of each task, and the standings of the teams."""

from collections.abc import Sequence

import numpy as np

from l2reg.io.text_columns import align_columns
from l2reg.ranking.rank import RUNTIME, Ranking, TaskRanking, TaskScores, official_entries
from l2reg.ranking.significance import LEVEL, min_rank_sum_p, min_signed_rank_p
from l2reg.wording import quantity

_HEADINGS = {
    "dsc": "DSC",
    "dsc30": "DSC30",
    "hd95": "HD95",
    "tre": "TRE",
    "tre30": "TRE30",
    "sdlogj": "SDlogJ",
    RUNTIME: "runtime",
}


def ranking_text(ranking: Ranking, tasks: Sequence[TaskScores]) -> str:
    """Return the rank scores of each task, the standings, and explanatory notes as text.

    Args:
        ranking: Ranking of the teams.
        tasks: Scores of the teams in each ranked task.
    """
    order = np.argsort(ranking.places[0], kind="stable").tolist()
    parts = [_task_table(task, ranking.tasks[task.name], order) for task in tasks]
    notes = [
        "rank scores range from 0.1 to 1, ties share their mean; scores are their geometric mean",
        "95 % interval of the place, and how often the place is kept: over "
        f"{ranking.resamples} draws of the pairs",
        *(note for task in tasks for note in _notes(task, ranking)),
    ]
    return "\n\n".join([*parts, _standings(ranking, order), "\n".join(notes)])


def _task_table(task: TaskScores, task_ranking: TaskRanking, order: Sequence[int]) -> str:
    columns = [
        name for name in dict.fromkeys(task_ranking.names) if task_ranking.timed or name != RUNTIME
    ]
    n_times = [list(task_ranking.names).count(name) for name in columns]
    headings = [
        f"{_HEADINGS[name]} x{n}" if n > 1 else _HEADINGS[name]
        for name, n in zip(columns, n_times, strict=True)
    ]
    scores = [task_ranking.columns[name] for name in columns]
    headings.append("score")
    scores.append(task_ranking.score)
    if task_ranking.timed:
        headings.append("without runtime")
        scores.append(task_ranking.score_without_runtime)
    lines = [[f"{task.name} ({quantity(len(task.pairs), 'pair')})", *headings]]
    lines += [[task.teams[n], *(f"{s[0, n]:.3f}" for s in scores)] for n in order]
    return align_columns(lines)


def _standings(ranking: Ranking, order: Sequence[int]) -> str:
    several = len(ranking.tasks) > 1
    names = list(ranking.tasks) if several else []
    scores = [task.score for task in ranking.tasks.values()] if several else []
    lines = [[f"{ranking.method} ranking", *names, "score", "place", "95 % interval", "kept"]]
    low, high = ranking.place_interval
    for n in order:
        cells = [f"{s[0, n]:.3f}" for s in [*scores, ranking.score]]
        place = [str(ranking.places[0, n]), f"{low[n]} to {high[n]}"]
        lines.append([ranking.teams[n], *cells, *place, f"{ranking.place_kept[n]:.0%}"])
    return align_columns(lines)


def _notes(task: TaskScores, ranking: Ranking) -> list[str]:
    notes = []
    if not task.timed:
        n = len(ranking.tasks[task.name].names) - 1
        by = quantity(n, "column")
        notes.append(f"{task.name}: ranked by {by}, without runtime; no team has one")
    absent_teams = [
        team for team, is_present in zip(task.teams, task.submitted, strict=True) if not is_present
    ]
    if absent_teams:
        notes.append(
            f"{task.name}: not submitted by {', '.join(absent_teams)}; ranked as the zero field"
        )
    for team, pairs in task.lacking.items():
        lacking = f"{team} lacks {', '.join(pairs)}"
        notes.append(f"{task.name}: INCOMPLETE, the organisers would refuse it: {lacking}; "
                     "ranked by the values for missing entries")  # fmt: skip
    return [*notes, *_undecided_notes(task, ranking)]


def _undecided_notes(task: TaskScores, ranking: Ranking) -> list[str]:
    """Return a line for every column whose test cannot reach significance, whatever the scores."""
    own = ranking.tasks[task.name]
    columns = [name for name in dict.fromkeys(own.names) if own.timed or name != RUNTIME]
    if ranking.method == "page":
        test, n_values = "signed-rank", {n: len(task.pairs) for n in columns if n != "dsc30"}
        min_p = min_signed_rank_p
    else:
        entries = official_entries(task)
        test, n_values = "rank-sum", {n: int((~np.isnan(entries[n][0])).sum()) for n in columns}
        min_p = min_rank_sum_p
    return [
        f"{task.name}, {_HEADINGS[name]}: too few pairs to tell teams apart: a {test} test of "
        f"{quantity(n, 'value')} a team has p {min_p(n):.2g} at best, not below {LEVEL}"
        for name, n in n_values.items()
        if min_p(n) >= LEVEL
    ]
