"""Score submissions of one task side by side, for people and for programs."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from matplotlib.figure import Figure
from tqdm import tqdm

from l2reg.data.check import check_pairs, check_truth
from l2reg.data.dataset import Dataset
from l2reg.data.pairs import Pair
from l2reg.evaluation.score_files import write_official, write_scores, write_tables
from l2reg.evaluation.score_submissions import (
    ZERO_FIELD,
    SubmissionScores,
    score_submissions,
    submitted_field,
)
from l2reg.evaluation.tables import (
    HIGH_IS_GOOD,
    case_table,
    difference_table,
    differences,
    label_table,
    metric_values,
    missing_note,
    score_table,
    summary_table,
)
from l2reg.problems import InputError, Problem, raise_if_any
from l2reg.reporting.figures import determinant_figure, pair_figure
from l2reg.reporting.registered_pair import registered_pair
from l2reg.reporting.report import Picture, write_report
from l2reg.submission.bundle import Submission, open_submission
from l2reg.submission.rules import Rules

SHOWN = ("cases", "labels", "statistics")

_MOST_PICTURES = 12


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How submissions are scored.

    Attributes:
        data: What to score on; images are read for the report alone.
        split: ``val`` or ``test``.
        rules: Of which generation.
        out: Folder of the files.
        show: Further tables to print: ``cases``, ``labels``, ``statistics``.
        report: Whether to write the page; its pictures show the last submission.
        allow_missing: Whether to score the rest where fields are missing.
        workers: Processes; ``None`` for one a core if there is enough to do.
    """

    data: Dataset
    split: str
    rules: Rules
    out: Path
    show: Sequence[str]
    report: bool
    allow_missing: bool
    workers: int | None


def evaluate_submissions(paths: Mapping[str, Path], how: Evaluation) -> list[Path]:
    """Print a table of official scores, and write them.

    Args:
        paths: Zips or folders by name; the zero field is scored beside them.
        how: Of what, by which rules, where to.

    Returns:
        The files written.

    Raises:
        InputError: If an option, a truth or a submission is not as it must be.
    """
    _check_shown(how.show)
    task, pairs = how.data.release.task, how.data.split_pairs(how.split)
    raise_if_any(check_truth(pairs, task))
    if how.report:
        raise_if_any(check_pairs(pairs, task, how.data.volumes))
    opened = {name: open_submission(path, task.folder, how.rules) for name, path in paths.items()}
    scored = score_submissions(
        opened,
        pairs,
        task,
        how.rules,
        allow_missing=how.allow_missing,
        cache=how.data.volumes.folder,
        workers=how.workers,
    )
    _print_tables(scored, how)
    written = [how.out / "scores.json"]
    write_scores(written[0], task, how.rules, scored)
    written += write_tables(how.out, scored)
    for name in opened:
        written.append(how.out / f"official_{slug(name)}.json")
        write_official(written[-1], task, pairs, scored[name], how.rules)
    if how.report and opened:
        written.append(how.out / "report.html")
        title = f"Task {task.name}, split {how.split}, rules {how.rules.name}"
        name, submission = list(opened.items())[-1]
        worst = _worst_first(pairs, scored[name], scored[ZERO_FIELD])
        pictures = _pictures(submission, worst[:_MOST_PICTURES], how)
        write_report(written[-1], title, scored, pictures, task, how.rules)
    return written


def named(submission: Sequence[str] | Mapping[str, str]) -> dict[str, Path]:
    """Return the submissions of an option by name: their paths if it is a list without names.

    Raises:
        InputError: If one is named twice, or takes the zero field's name.
    """
    pairs = (
        list(submission.items())
        if isinstance(submission, Mapping)
        else [(str(path), str(path)) for path in submission]
    )
    paths = {str(name): Path(path) for name, path in pairs}
    if len(paths) < len(pairs) or ZERO_FIELD in paths:
        given = ", ".join(str(name) for name, _ in pairs)
        problem = Problem(
            where="submission",
            what="names one twice",
            expected="different ones",
            found=given,
            remedy="leave one out",
        )
        raise InputError(problem)
    return paths


def slug(name: str) -> str:
    """Return a name as a part of a file's name."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", name).strip("_.")


def _check_shown(show: Sequence[str]) -> None:
    if unknown := sorted(set(show) - set(SHOWN)):
        known = ", ".join(SHOWN)
        found = ", ".join(unknown)
        raise InputError(
            Problem(
                where=f"show={found}",
                what="is unknown",
                expected=known,
                found=found,
                remedy=f"show=[{known}]",
            )
        )


def _print_tables(scored: Mapping[str, SubmissionScores], how: Evaluation) -> None:
    rows = {name: scores.pairs for name, scores in scored.items()}
    note = missing_note(scored)
    tables = [score_table(rows, how.rules)]
    if "statistics" in how.show:
        for metric in rows[ZERO_FIELD][0].values():
            tables += [summary_table(rows, metric), difference_table(differences(rows, metric))]
    submitted = {name: scores for name, scores in rows.items() if name != ZERO_FIELD}
    for name, scores in submitted.items():
        if "cases" in how.show:
            tables.append(f"{name}\n{case_table(scores)}")
        if "labels" in how.show and scores[0].dsc:
            tables.append(f"{name}\n{label_table(scores, how.data.release.task.labels)}")
    for table in filter(None, tables):
        tqdm.write(f"{table}\n{note}" if note else table)
        if len(tables) > 1:
            tqdm.write("")


def _worst_first(
    pairs: Sequence[Pair], scores: SubmissionScores, initial: SubmissionScores
) -> list[Pair]:
    """Return the pairs by their Dice or landmark error, the worst first."""
    metric = next(iter(initial.pairs[0].values()))
    values = metric_values(scores.pairs, metric)
    order = (values if metric in HIGH_IS_GOOD else -values).argsort(kind="stable")
    by_name = {pair.name: pair for pair in pairs}
    return [by_name[scores.pairs[index].pair] for index in order]


def _pictures(submission: Submission, pairs: Sequence[Pair], how: Evaluation) -> Iterator[Picture]:
    reader = replace(how.data, prealign="none").reader("full")
    for pair in tqdm(pairs, "drawing", disable=None, leave=False):
        disp = submitted_field(submission, pair, reader.task, how.rules)
        drawn: list[Figure] = [
            pair_figure(registered_pair(pair, reader, disp), pair.name),
            determinant_figure(disp),
        ]
        yield pair.name, drawn
