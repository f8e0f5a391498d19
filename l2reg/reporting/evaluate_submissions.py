"""Evaluation: score the submissions of one task, print tables, and write score files and a page."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from l2reg.data.check import check_ground_truth, check_pairs, compare_headers_of
from l2reg.data.dataset import Dataset
from l2reg.data.pairs import Pair
from l2reg.data.reader import PairReader
from l2reg.evaluation.pair_scores import metric_names
from l2reg.evaluation.score_files import write_official, write_scores, write_tables
from l2reg.evaluation.score_submissions import (
    ZERO_FIELD,
    SubmissionScores,
    score_submissions,
    submitted_field,
)
from l2reg.evaluation.tables import (
    case_table,
    difference_table,
    differences,
    label_table,
    score_table,
    submission_notes,
    summary_table,
)
from l2reg.io.output_folders import OutputKind, claim_output_folder
from l2reg.problems import InputError, Problem, raise_if_any
from l2reg.reporting.page import provenance
from l2reg.reporting.registered_pair import registered_pair
from l2reg.reporting.report import MAX_PAIRS_DRAWN, Picture, worst_first, write_report
from l2reg.submission.bundle import Submission, open_submission
from l2reg.submission.rules import Rules

FURTHER_TABLES = ("cases", "labels", "statistics")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Settings of an evaluation.

    Attributes:
        data: Data set with the ground truth; its images are only read for the report.
        split: Split to score: ``val`` or ``test``.
        rules: Rules of the scores.
        out: Folder of the files that are written: new, or of an evaluation.
        overwrite: Whether to delete the evaluation in the folder first.
        show: Names of further tables to print: ``cases``, ``labels``, ``statistics``.
        report: Whether to write the HTML page; its figures show the last submission.
        allow_missing: Whether to score the other pairs if fields are missing.
        workers: Number of processes; ``None`` for one per core if there are enough pairs.
        command: The command that evaluates, for the report.
    """

    data: Dataset
    split: str
    rules: Rules
    out: Path
    overwrite: bool
    show: Sequence[str]
    report: bool
    allow_missing: bool
    workers: int | None
    command: str = ""


def evaluate_submissions(paths: Mapping[str, Path], settings: Evaluation) -> list[Path]:
    """Score submissions and the zero field, print the official scores, and write all files.

    Args:
        paths: Paths of the zips or folders, by the name of the submission.
        settings: Settings of the evaluation.

    Returns:
        Paths of the files that were written.

    Raises:
        InputError: If an option, the ground truth, a submission or the output folder has a fault.
    """
    _check_show(settings.show)
    task, pairs = settings.data.release.task, settings.data.split_pairs(settings.split)
    raise_if_any(check_ground_truth(pairs, task))
    if settings.report:
        raise_if_any(check_pairs(pairs, task, settings.data.volume_cache))
    for warning in compare_headers_of(pairs):
        tqdm.write(f"warning: {warning}")
    submissions = {
        name: open_submission(path, task, pairs, settings.rules) for name, path in paths.items()
    }
    inputs = [*settings.data.inputs, *paths.values()]
    claim_output_folder(
        settings.out, OutputKind.EVALUATION, overwrite=settings.overwrite, inputs=inputs
    )
    results = score_submissions(
        submissions,
        pairs,
        task,
        settings.rules,
        allow_missing=settings.allow_missing,
        cache=settings.data.volume_cache.folder,
        workers=settings.workers,
    )
    _print_tables(results, settings)
    written = [settings.out / "scores.json"]
    write_scores(written[0], task, settings.rules, results)
    written += write_tables(settings.out, results)
    for name in submissions:
        written.append(settings.out / f"official_{slug(name)}.json")
        write_official(written[-1], task, pairs, results[name], settings.rules)
    if settings.report and submissions:
        written.append(settings.out / "report.html")
        title = f"Task {task.name}, split {settings.split}, rules {settings.rules.name}"
        name, submission = list(submissions.items())[-1]
        worst = worst_first(results[name].pairs, results[ZERO_FIELD].pairs)
        order = [score.pair for score in worst]
        reader = settings.data.reader("full")
        pictures = draw_pairs(submission, pairs, order, reader, settings.rules)
        made = provenance(command=settings.command, data=str(settings.data.release.folder))
        write_report(written[-1], title, results, pictures, task, settings.rules, made)
    return written


def name_submissions(
    submission: str | float | Sequence[str] | Mapping[str, str],
) -> dict[str, Path]:
    """Return the paths of the submissions of an option, by name.

    Args:
        submission: Paths by name, or one path or several, which then are the names too. ``~``
            stands for the home folder.

    Raises:
        InputError: If two submissions have one name, or if one has the name of the zero field.
    """
    if isinstance(submission, str | int | float):  # as YAML reads a folder called 5
        submission = [str(submission)]
    pairs = (
        list(submission.items())
        if isinstance(submission, Mapping)
        else [(str(path), str(path)) for path in submission]
    )
    paths = {str(name): Path(path).expanduser() for name, path in pairs}
    if len(paths) < len(pairs) or ZERO_FIELD in paths:
        names = ", ".join(str(name) for name, _ in pairs)
        problem = Problem(
            where="submission",
            what="has a name twice",
            expected=f"a different name for each submission, and none called {ZERO_FIELD!r}",
            found=names,
            remedy="leave out a submission or give it another name",
        )
        raise InputError(problem)
    return paths


def slug(name: str) -> str:
    """Return a name in a form fit for a file name: letters, digits, dots, hyphens, underscores."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", name).strip("_.")


def _check_show(show: Sequence[str]) -> None:
    if unknown := sorted(set(show) - set(FURTHER_TABLES)):
        known = ", ".join(FURTHER_TABLES)
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


def _print_tables(results: Mapping[str, SubmissionScores], settings: Evaluation) -> None:
    rows = {name: scores.pairs for name, scores in results.items()}
    notes = submission_notes(results)
    tables = [score_table(rows, settings.rules)]
    if "statistics" in settings.show:
        for metric in metric_names(rows[ZERO_FIELD]):
            tables += [summary_table(rows, metric), difference_table(differences(rows, metric))]
    submissions = {name: scores for name, scores in rows.items() if name != ZERO_FIELD}
    for name, scores in submissions.items():
        if "cases" in settings.show:
            tables.append(f"{name}\n{case_table(scores)}")
        by_label = label_table(scores, settings.data.release.task.labels)
        if "labels" in settings.show and by_label:
            tables.append(f"{name}\n{by_label}")
    for table in filter(None, tables):
        tqdm.write("\n".join([table, *notes]))
        if len(tables) > 1:
            tqdm.write("")


def draw_pairs(
    submission: Submission,
    pairs: Sequence[Pair],
    order: Sequence[str],
    reader: PairReader,
    rules: Rules,
) -> Iterator[Picture]:
    """Yield the name of a pair and what a report shows of it, at most twelve.

    Args:
        submission: The fields.
        pairs: The pairs.
        order: Names of pairs, those to be shown first at the beginning.
        reader: Reader of the full grid.
        rules: Rules that the fields follow.
    """
    by_name = {pair.name: pair for pair in pairs}
    for name in tqdm(order[:MAX_PAIRS_DRAWN], "drawing", disable=None, leave=False):
        disp = submitted_field(submission, by_name[name], reader.task, rules)
        yield name, registered_pair(by_name[name], reader, disp)
