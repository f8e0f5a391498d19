"""Rank teams: as the organisers' code does, or as the challenge's page describes it.

Both compare every two teams by a significance test, turn the number of teams that are better into
a rank score from 0.1 to 1, and take the geometric mean over metrics, then over tasks. The zero
field takes part. They differ in the tests:

``official`` (``ranking_utils`` of the Learn2Reg repository, which made the tables of 2021): one
    unpaired rank-sum test per metric over the entries of all pairs and labels (or landmarks)
    together. In task 2 the TRE counts twice. DSC30 and TRE30 are tests over the 30 % of the
    entries that were hardest before registration.
``page`` (learn2reg.grand-challenge.org): Wilcoxon signed-rank tests over the pairs, one for each
    structure, whose rank scores are averaged. Landmarks are no structures: their mean over a pair
    is tested. DSC30 is a team's mean over the worst 30 % of its own pairs; as those are other pairs
    for every team, it is ranked by value, without a test. Task 2 has no TRE30. The "bonus" for
    short runtimes is a column as in the official code. The page is silent on what a missing
    value is worth; it is worth what it is officially.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import gmean, rankdata

from l2reg.evaluation.aggregate import hardest, hardest_per_row
from l2reg.problems import InputError, Problem
from l2reg.ranking.significance import (
    Counts,
    count_better_by_rank_sum,
    count_better_by_signed_rank,
    count_better_on_worst_pairs,
    rank_scores,
)

Method = Literal["official", "page"]
METHODS: tuple[Method, ...] = get_args(Method)
RUNTIME = "runtime"

# What a missing value is worth in the organisers' ranking; none of them is a possible best.
DSC_MISSING = 0.0  # the label is absent from a scan, the same for all teams, or the pair is missing
HD95_MISSING = 10.0  # voxels; likewise, or the label vanished when warped (inf)
TRE_MISSING_MM = 30.0
SDLOGJ_MISSING = 5.0  # of the zero field too, whose 0 would be the best
RUNTIME_MISSING_S = 5000.0  # no container was submitted

_COLUMNS: Mapping[
    tuple[Method, bool], Sequence[str]
] = {  # of the task score, in this order; one that is named twice counts twice
    ("official", True): ("dsc", "dsc30", "hd95", "sdlogj", RUNTIME),
    ("official", False): ("tre", "tre", "tre30", "sdlogj", RUNTIME),
    ("page", True): ("dsc", "dsc30", "hd95", "sdlogj", RUNTIME),
    ("page", False): ("tre", "sdlogj", RUNTIME),
}

Scores = Float[np.ndarray, "rows teams"]  # row 0 is the ranking, the others are of resamples


@dataclass(frozen=True)
class TaskScores:
    """What all teams scored in one task; nan where there is nothing.

    Attributes:
        name: Of the task.
        number: Of the task: 1 to 3.
        teams: Names; the first is the zero field, called Initial by the organisers.
        pairs: Names.
        dsc: Dice coefficient; no labels in a task that landmarks score.
        hd95_voxels: 95 % Hausdorff distance, inf where the label vanished when warped.
        tre_mm: Target registration error; pairs of fewer landmarks are filled up with nan.
        sdlogj: The zero field's is missing, not 0.
        runtime_s: Seconds.
    """

    name: str
    number: int
    teams: Sequence[str]
    pairs: Sequence[str]
    dsc: Float[np.ndarray, "teams pairs labels"]
    hd95_voxels: Float[np.ndarray, "teams pairs labels"]
    tre_mm: Float[np.ndarray, "teams pairs landmarks"]
    sdlogj: Float[np.ndarray, "teams pairs"]
    runtime_s: Float[np.ndarray, "teams pairs"]

    @property
    def labelled(self) -> bool:
        """Return whether labels score the task; otherwise landmarks do."""
        return bool(self.dsc.size)

    @property
    def timed(self) -> bool:
        """Return whether any team has runtimes."""
        return bool((~np.isnan(self.runtime_s)).any())

    @property
    def submitted(self) -> Bool[np.ndarray, " teams"]:
        """Return which teams have any score; the others get those of the zero field."""
        return ~_nowhere(self.dsc if self.labelled else self.tre_mm)

    @property
    def lacking(self) -> dict[str, list[str]]:
        """Return which pairs are missing of the teams that submitted only some."""
        missing = {
            team: [pair for pair, value in zip(self.pairs, row, strict=True) if np.isnan(value)]
            for team, row in zip(self.teams[1:], self.sdlogj[1:], strict=True)
        }
        return {team: pairs for team, pairs in missing.items() if 0 < len(pairs) < len(self.pairs)}

    def filled(self) -> dict[str, Float[np.ndarray, "teams pairs _"]]:
        """Return values by metric, negated where low is good, the missing ones filled.

        A team without any value of a metric did not submit the task and gets the zero field's
        values; in what then is missing, the constants above are put. Landmarks that the zero field
        lacks do not exist and stay nan.
        """
        found = {
            "sdlogj": -_filled(self.sdlogj, SDLOGJ_MISSING)[:, :, None],
            RUNTIME: -_filled(self.runtime_s, RUNTIME_MISSING_S)[:, :, None],
        }
        if self.labelled:
            distance = _substituted(self.hd95_voxels)
            found["dsc"] = _filled(_substituted(self.dsc), DSC_MISSING)
            found["hd95"] = -np.where(np.isfinite(distance), distance, HD95_MISSING)
        else:
            errors = _filled(_substituted(self.tre_mm), TRE_MISSING_MM)
            found["tre"] = -np.where(np.isnan(self.tre_mm[0]), np.nan, errors)
        return found


@dataclass(frozen=True)
class TaskRanking:
    """Rank scores of one task.

    Attributes:
        names: Columns of the task score; one that is named twice counts twice.
        columns: Rank scores by column, runtime's also where no team has runtimes.
        timed: Whether the runtime counts.
    """

    names: Sequence[str]
    columns: Mapping[str, Scores]
    timed: bool

    @property
    def score(self) -> Scores:
        """Return the task score: the geometric mean over the columns, runtime if it counts."""
        return self._mean(self.names) if self.timed else self.score_without_runtime

    @property
    def score_without_runtime(self) -> Scores:
        """Return the geometric mean over the columns but runtime."""
        return self._mean([name for name in self.names if name != RUNTIME])

    def _mean(self, names: Sequence[str]) -> Scores:
        scores: Scores = gmean([self.columns[name] for name in names], axis=0)
        return scores


@dataclass(frozen=True)
class Ranking:
    """Who is where, and how sure that is.

    Attributes:
        teams: Names; the first is the zero field.
        tasks: By name.
        method: How they were ranked.
        resamples: How often the pairs of each task were drawn anew, with replacement.
    """

    teams: Sequence[str]
    tasks: Mapping[str, TaskRanking]
    method: Method
    resamples: int

    @property
    def score(self) -> Scores:
        """Return the overall score: the geometric mean of the task scores."""
        scores: Scores = gmean([task.score for task in self.tasks.values()], axis=0)
        return scores

    @property
    def places(self) -> Int[np.ndarray, "rows teams"]:
        """Return places from 1; teams of equal score share the better one."""
        rounded = np.round(self.score, 12)  # equal scores may differ in their last digit
        return np.asarray(rankdata(-rounded, method="min", axis=1), dtype=int)

    @property
    def place_interval(self) -> Int[np.ndarray, "2 teams"]:
        """Return between which places 95 % of the resamples put each team."""
        low = np.quantile(self.places[1:], 0.025, axis=0, method="inverted_cdf")
        high = np.quantile(self.places[1:], 0.975, axis=0, method="inverted_cdf")
        return np.stack([low, high])

    @property
    def place_kept(self) -> Float[np.ndarray, " teams"]:
        """Return in which share of the resamples each team keeps its place."""
        kept: Float[np.ndarray, " teams"] = (self.places[1:] == self.places[0]).mean(axis=0)
        return kept


def rank(tasks: Sequence[TaskScores], method: Method, *, resamples: int) -> Ranking:
    """Rank teams by their scores, and see how the places change when pairs are drawn anew.

    The same pairs are drawn for all teams, and always the same ones; which entries are hardest
    does not depend on what is drawn.

    Args:
        tasks: One or more, of the same teams in the same order.
        method: ``official`` or ``page``; the module says what they are.
        resamples: At least 1.

    Raises:
        InputError: If there are no resamples to see the stability by.
    """
    if resamples < 1:
        problem = Problem(
            where="resamples",
            what="are too few",
            expected="1 or more",
            found=str(resamples),
            remedy="say 1000",
        )
        raise InputError(problem)
    ranked = {}
    for task in tasks:
        n = len(task.pairs)
        random = np.random.default_rng((0, task.number))
        drawn = random.multinomial(n, np.full(n, 1 / n), size=resamples)
        counts = np.concatenate([np.ones((1, n)), drawn])
        columns = _official(task, counts) if method == "official" else _page(task, counts)
        ranked[task.name] = TaskRanking(_COLUMNS[method, task.labelled], columns, task.timed)
    return Ranking(tasks[0].teams, ranked, method, resamples)


def official_better_counts(
    task: TaskScores, counts: Counts
) -> dict[str, Int[np.ndarray, "rows teams"]]:
    """Return by column how many teams are significantly better, as the official code counts."""
    values = task.filled()
    if task.labelled:
        values["dsc30"] = np.where(hardest(values["dsc"][0]), values["dsc"], np.nan)
    else:
        values["tre30"] = np.where(hardest_per_row(values["tre"][0]), values["tre"], np.nan)
    return {name: count_better_by_rank_sum(entries, counts) for name, entries in values.items()}


def _official(task: TaskScores, counts: Counts) -> dict[str, Scores]:
    return {
        name: rank_scores(losses) for name, losses in official_better_counts(task, counts).items()
    }


def _page(task: TaskScores, counts: Counts) -> dict[str, Scores]:
    values = task.filled()
    scores = {}
    if task.labelled:
        worst = count_better_on_worst_pairs(values["dsc"].mean(axis=2), counts)
        scores["dsc30"] = rank_scores(worst)
    else:
        values["tre"] = np.nanmean(values["tre"], axis=2, keepdims=True)
    for name, entries in values.items():
        structures = [
            count_better_by_signed_rank(own, counts) for own in np.moveaxis(entries, 2, 0)
        ]
        scores[name] = np.mean([rank_scores(losses) for losses in structures], axis=0)
    return scores


def _nowhere(values: Float[np.ndarray, "teams ..."]) -> Bool[np.ndarray, " teams"]:
    missing: Bool[np.ndarray, " teams"] = np.isnan(values).reshape(len(values), -1).all(axis=1)
    return missing


def _substituted(values: Float[np.ndarray, "teams ..."]) -> Float[np.ndarray, "teams ..."]:
    """Return the zero field's values for teams that have none."""
    return np.where(_nowhere(values)[:, None, None], values[0], values)


def _filled(values: Float[np.ndarray, "*shape"], value: float) -> Float[np.ndarray, "*shape"]:
    return np.where(np.isnan(values), value, values)
