"""Scores of all teams by task, read from the ``scores.json`` files of ``l2reg evaluate``."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from l2reg.evaluation.pair_scores import PairScores
from l2reg.evaluation.score_files import read_scores
from l2reg.evaluation.score_submissions import ZERO_FIELD, SubmissionScores
from l2reg.problems import Problem, raise_if_any
from l2reg.ranking.rank import TaskScores

Submissions = Mapping[str, SubmissionScores]


@dataclass(frozen=True)
class _File:
    """Content of one ``scores.json``: submissions of one task."""

    path: Path
    task: str
    number: int
    rules: str
    submissions: Submissions

    @property
    def initial(self) -> dict[str, PairScores]:
        """Return the zero field's scores by pair."""
        return {score.pair: score for score in self.submissions[ZERO_FIELD].pairs}


def read_tasks(paths: Sequence[Path]) -> list[TaskScores]:
    """Read the scores of every task, in order of task number, with the same teams in each task.

    The zero field is the first team. Files of the same task are merged. A team without scores in a
    task has nan there.

    Args:
        paths: Paths of ``scores.json`` files, of one task each.

    Raises:
        InputError: If a file cannot be read, if the rules of the files differ, or if files of the
            same task have a team in common, different pairs or different ground truth. All such
            problems are reported together.
    """
    files = [_read(path) for path in paths]
    by_task: dict[str, list[_File]] = {}
    for file in files:
        by_task.setdefault(file.task, []).append(file)
    problems = [_rules_problem(files[0], file) for file in files if file.rules != files[0].rules]
    for first, *others in by_task.values():
        for file in others:
            problems += _data_problems(first, file)
    raise_if_any(
        [*problems, *(p for group in by_task.values() for p in _duplicate_problems(group))]
    )
    teams = [ZERO_FIELD, *dict.fromkeys(n for f in files for n in f.submissions if n != ZERO_FIELD)]
    tasks = [_gather(group, teams) for group in by_task.values()]
    return sorted(tasks, key=lambda task: (task.number, task.name))


def _read(path: Path) -> _File:
    content, submissions = read_scores(path)
    return _File(path, content["task"], content["number"], content["rules"], submissions)


def _gather(files: Sequence[_File], teams: Sequence[str]) -> TaskScores:
    """Merge files of one task into the scores of all ``teams``."""
    initial = files[0].initial
    submissions = {name: scores for file in files for name, scores in file.submissions.items()}
    known = {
        (team, score.pair): score for team, scores in submissions.items() for score in scores.pairs
    }
    labels = list(dict.fromkeys(label for score in initial.values() for label in score.dsc))

    def array(
        values: Callable[[PairScores], Sequence[float]],
    ) -> Float[np.ndarray, "teams pairs entries"]:
        n_entries = max(len(values(score)) for score in initial.values())
        table = np.full((len(teams), len(initial), n_entries), np.nan)
        for row, team in zip(table, teams, strict=True):
            for entries, pair in zip(row, initial, strict=True):
                if (team, pair) in known:
                    own = values(known[team, pair])
                    entries[: len(own)] = own
        return table

    sdlogj = array(lambda score: [score.change.sdlogj])[:, :, 0]
    sdlogj[0] = np.nan  # as in the organisers' tables: 0 would be the best value
    seconds = [submissions[team].seconds if team in submissions else {} for team in teams]
    return TaskScores(
        name=files[0].task,
        number=files[0].number,
        teams=teams,
        pairs=list(initial),
        dsc=array(lambda score: [score.dsc.get(label, np.nan) for label in labels]),
        hd95_voxels=array(lambda score: [score.hd95_voxels.get(label, np.nan) for label in labels]),
        tre_mm=array(lambda score: score.tre_mm),
        sdlogj=sdlogj,
        runtime_s=np.array([[float(s.get(pair, np.nan)) for pair in initial] for s in seconds]),
    )


def _rules_problem(first: _File, file: _File) -> Problem:
    """Return the problem of two files with different rules."""
    return Problem(
        where=str(file.path),
        what=f"was scored by other rules than {first.path}",
        expected=first.rules,
        found=file.rules,
        remedy=f"score it again: l2reg evaluate task={file.task} rules={first.rules} ...",
    )


def _data_problems(first: _File, file: _File) -> list[Problem]:
    """Return the problems that prevent merging two files of one task: pairs or ground truth."""
    ours, theirs = first.initial, file.initial
    remedy = f"score all teams on the same data: l2reg evaluate task={file.task} ..."
    if ours.keys() != theirs.keys():
        what = f"has other pairs than {first.path}"
        expected, found = (", ".join(sorted(pairs)) for pairs in (ours, theirs))
        return [
            Problem(where=str(file.path), what=what, expected=expected, found=found, remedy=remedy)
        ]
    other = [pair for pair in ours if not _has_same_ground_truth(ours[pair], theirs[pair])]
    if not other:
        return []
    what = f"was scored with other labels or landmarks than {first.path}"
    found = f"other scores for {', '.join(other)}"
    return [
        Problem(
            where=str(file.path),
            what=what,
            expected="equal scores of the zero field",
            found=found,
            remedy=remedy,
        )
    ]


def _has_same_ground_truth(one: PairScores, other: PairScores) -> bool:
    """Return whether the zero field has the same scores in both, up to rounding."""
    first, second = (np.array([*s.dsc, *s.dsc.values(), *s.tre_mm]) for s in (one, other))
    return first.shape == second.shape and bool(np.allclose(first, second, equal_nan=True))


def _duplicate_problems(files: Sequence[_File]) -> list[Problem]:
    """Return the problems of teams that several files of one task contain."""
    paths: dict[str, Path] = {}
    problems = []
    for file in files:
        for team in file.submissions:
            if team in paths and team != ZERO_FIELD:
                what = f"holds team {team}, which {paths[team]} also holds"
                remedy = "leave one file out, or evaluate one submission under another name"
                found = f"{team} twice in task {file.task}"
                problems.append(
                    Problem(
                        where=str(file.path),
                        what=what,
                        expected="every team once",
                        found=found,
                        remedy=remedy,
                    )
                )
            paths[team] = file.path
    return problems
