"""Ranking of teams, by the organisers' code or by the description on the challenge's page.

Both methods compare every two teams by a significance test, convert the number of better teams to a
rank score from 0.1 to 1, and take the geometric mean over metrics, then over tasks. The zero field
is ranked as a team. The methods differ in the tests:

``official`` (``ranking_utils`` of the Learn2Reg repository, which made the tables of 2021): one
    unpaired rank-sum test per metric over the entries of all pairs and labels (or landmarks)
    together. In task 2 the TRE counts twice. DSC30 and TRE30 are tests over the 30 % of the
    entries that were hardest before registration.
``page`` (learn2reg.grand-challenge.org): Wilcoxon signed-rank tests over the pairs, one per
    structure, whose rank scores are averaged. Landmarks are not structures: their mean over a pair
    is tested. DSC30 is a team's mean over the worst 30 % of its own pairs; as these pairs differ
    between teams, it is ranked by value, without a test. Task 2 has no TRE30. The "bonus" for
    short runtimes is a column as in the official code. The page does not define the values of
    missing entries; they are the official ones.
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

RankingMethod = Literal["official", "page"]
METHODS: tuple[RankingMethod, ...] = get_args(RankingMethod)
RUNTIME = "runtime"

# Values of missing entries in the organisers' ranking; none is a possible best value.
DSC_MISSING = 0.0  # a scan lacks the label (for all teams alike), or the pair is missing
HD95_MISSING = 10.0  # voxels; as for DSC, or warping removed the label (inf)
TRE_MISSING_MM = 30.0
SDLOGJ_MISSING = 5.0  # also for the zero field, whose 0 would be the best value
RUNTIME_MISSING_S = 5000.0  # no container was submitted

# Columns of the task score by method and whether labels score the task; repeated ones count twice
_COLUMNS: Mapping[tuple[RankingMethod, bool], Sequence[str]] = {
    ("official", True): ("dsc", "dsc30", "hd95", "sdlogj", RUNTIME),
    ("official", False): ("tre", "tre", "tre30", "sdlogj", RUNTIME),
    ("page", True): ("dsc", "dsc30", "hd95", "sdlogj", RUNTIME),
    ("page", False): ("tre", "sdlogj", RUNTIME),
}

Scores = Float[np.ndarray, "rows teams"]  # row 0: the data; other rows: resamples


@dataclass(frozen=True)
class TaskScores:
    """Scores of all teams in one task; missing values are nan.

    Attributes:
        name: Name of the task.
        number: Number of the task, 1 to 3.
        teams: Names of the teams; the first is the zero field, called Initial by the organisers.
        pairs: Names of the pairs.
        dsc: Dice coefficients; without labels in a task scored by landmarks.
        hd95_voxels: 95 % Hausdorff distances; inf if warping removed the label.
        tre_mm: Target registration errors; pairs with fewer landmarks are padded with nan. Without
            landmarks in a task scored by labels.
        sdlogj: SDlogJ of each field; that of the zero field is nan, not 0.
        runtime_s: Runtimes in seconds.
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
        """Return whether the task is scored by labels, not by landmarks."""
        return bool(self.dsc.size)

    @property
    def timed(self) -> bool:
        """Return whether any team has runtimes."""
        return bool((~np.isnan(self.runtime_s)).any())

    @property
    def submitted(self) -> Bool[np.ndarray, " teams"]:
        """Return which teams submitted the task; the others get the zero field's scores."""
        return ~_has_no_values(self.dsc if self.labelled else self.tre_mm)

    @property
    def lacking(self) -> dict[str, list[str]]:
        """Return the missing pairs of each team that submitted only some pairs."""
        missing = {
            team: [pair for pair, value in zip(self.pairs, row, strict=True) if np.isnan(value)]
            for team, row in zip(self.teams[1:], self.sdlogj[1:], strict=True)
        }
        return {team: pairs for team, pairs in missing.items() if 0 < len(pairs) < len(self.pairs)}

    def fill_missing(self) -> dict[str, Float[np.ndarray, "teams pairs _"]]:
        """Return values by metric with missing ones filled; higher is better (negated if not).

        A team without any value of a metric did not submit the task and gets the zero field's
        values. Values that are still missing are replaced by the constants above. Landmarks that
        the zero field lacks do not exist and stay nan.
        """
        values_by_metric = {
            "sdlogj": -_fill_nan(self.sdlogj, SDLOGJ_MISSING)[:, :, None],
            RUNTIME: -_fill_nan(self.runtime_s, RUNTIME_MISSING_S)[:, :, None],
        }
        if self.labelled:
            distance = _substitute_zero_field(self.hd95_voxels)
            values_by_metric["dsc"] = _fill_nan(_substitute_zero_field(self.dsc), DSC_MISSING)
            values_by_metric["hd95"] = -np.where(np.isfinite(distance), distance, HD95_MISSING)
        else:
            errors = _fill_nan(_substitute_zero_field(self.tre_mm), TRE_MISSING_MM)
            values_by_metric["tre"] = -np.where(np.isnan(self.tre_mm[0]), np.nan, errors)
        return values_by_metric


@dataclass(frozen=True)
class TaskRanking:
    """Rank scores of one task.

    Attributes:
        names: Names of the columns of the task score; a repeated column counts twice.
        columns: Rank scores by column, including runtime even if no team has runtimes.
        timed: Whether the runtime counts.
    """

    names: Sequence[str]
    columns: Mapping[str, Scores]
    timed: bool

    @property
    def score(self) -> Scores:
        """Return the task score: the geometric mean over the columns, with runtime if it counts."""
        return self._mean(self.names) if self.timed else self.score_without_runtime

    @property
    def score_without_runtime(self) -> Scores:
        """Return the geometric mean over all columns except runtime."""
        return self._mean([name for name in self.names if name != RUNTIME])

    def _mean(self, names: Sequence[str]) -> Scores:
        scores: Scores = gmean([self.columns[name] for name in names], axis=0)
        return scores


@dataclass(frozen=True)
class Ranking:
    """Ranking of teams over all tasks, and its stability under resampling of the pairs.

    Attributes:
        teams: Names of the teams; the first is the zero field.
        tasks: Rankings of the tasks, by name.
        method: Ranking method, ``official`` or ``page``.
        resamples: Number of bootstrap resamples of the pairs of each task.
    """

    teams: Sequence[str]
    tasks: Mapping[str, TaskRanking]
    method: RankingMethod
    resamples: int

    @property
    def score(self) -> Scores:
        """Return the overall score: the geometric mean of the task scores."""
        scores: Scores = gmean([task.score for task in self.tasks.values()], axis=0)
        return scores

    @property
    def places(self) -> Int[np.ndarray, "rows teams"]:
        """Return places from 1; teams with equal scores share the better place."""
        rounded = np.round(self.score, 12)  # equal scores may differ in the last digit
        return np.asarray(rankdata(-rounded, method="min", axis=1), dtype=int)

    @property
    def place_interval(self) -> Int[np.ndarray, "2 teams"]:
        """Return the 95 % interval of each team's place over the resamples, ends included."""
        low = np.quantile(self.places[1:], 0.025, axis=0, method="inverted_cdf")
        high = np.quantile(self.places[1:], 0.975, axis=0, method="inverted_cdf")
        return np.stack([low, high])

    @property
    def place_kept(self) -> Float[np.ndarray, " teams"]:
        """Return the fraction of the resamples in which each team keeps its place."""
        fraction: Float[np.ndarray, " teams"] = (self.places[1:] == self.places[0]).mean(axis=0)
        return fraction


def rank(tasks: Sequence[TaskScores], method: RankingMethod, *, resamples: int) -> Ranking:
    """Rank teams by their scores, and resample the pairs to measure the stability of places.

    The draws are the same for all teams and have a fixed seed. The entries that are hardest are
    determined from all pairs, not from the pairs drawn.

    Args:
        tasks: Scores of one or more tasks, with the same teams in the same order.
        method: Ranking method, ``official`` or ``page``, as described at the top of this module.
        resamples: Number of bootstrap resamples, at least 1.

    Raises:
        InputError: If ``resamples`` is less than 1.
    """
    if resamples < 1:
        problem = Problem(
            where="resamples",
            what="are too few",
            expected="1 or more",
            found=str(resamples),
            remedy="use 1000, for example",
        )
        raise InputError(problem)
    rankings = {}
    for task in tasks:
        n = len(task.pairs)
        random = np.random.default_rng((0, task.number))
        draws = random.multinomial(n, np.full(n, 1 / n), size=resamples)
        counts = np.concatenate([np.ones((1, n)), draws])
        columns = _official(task, counts) if method == "official" else _page(task, counts)
        rankings[task.name] = TaskRanking(_COLUMNS[method, task.labelled], columns, task.timed)
    return Ranking(tasks[0].teams, rankings, method, resamples)


def official_better_counts(
    task: TaskScores, counts: Counts
) -> dict[str, Int[np.ndarray, "rows teams"]]:
    """Return by column the number of significantly better teams, as in the official code.

    Args:
        task: Scores of all teams.
        counts: Multiplicity of each pair in each resample.
    """
    return {
        name: count_better_by_rank_sum(entries, counts)
        for name, entries in official_entries(task).items()
    }


def official_entries(task: TaskScores) -> dict[str, Float[np.ndarray, "teams pairs _"]]:
    """Return by column the values that the official tests compare; nan are not entries."""
    values = task.fill_missing()
    if task.labelled:
        values["dsc30"] = np.where(hardest(values["dsc"][0]), values["dsc"], np.nan)
    else:
        values["tre30"] = np.where(hardest_per_row(values["tre"][0]), values["tre"], np.nan)
    return values


def _official(task: TaskScores, counts: Counts) -> dict[str, Scores]:
    """Return rank scores by column, by the official method."""
    return {
        name: rank_scores(better) for name, better in official_better_counts(task, counts).items()
    }


def _page(task: TaskScores, counts: Counts) -> dict[str, Scores]:
    """Return rank scores by column, by the method of the challenge's page."""
    values = task.fill_missing()
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
        scores[name] = np.mean([rank_scores(better) for better in structures], axis=0)
    return scores


def _has_no_values(values: Float[np.ndarray, "teams ..."]) -> Bool[np.ndarray, " teams"]:
    """Return which teams have no value at all."""
    missing: Bool[np.ndarray, " teams"] = np.isnan(values).reshape(len(values), -1).all(axis=1)
    return missing


def _substitute_zero_field(
    values: Float[np.ndarray, "teams ..."],
) -> Float[np.ndarray, "teams ..."]:
    """Return ``values`` with those of the zero field for teams that have none."""
    return np.where(_has_no_values(values)[:, None, None], values[0], values)


def _fill_nan(values: Float[np.ndarray, "*shape"], value: float) -> Float[np.ndarray, "*shape"]:
    return np.where(np.isnan(values), value, values)
