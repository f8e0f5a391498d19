"""Score submissions of one task side by side."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from tqdm import tqdm

from l2reg.data.cases import Pair
from l2reg.data.check import check_pairs, check_truth
from l2reg.data.dataset import Dataset
from l2reg.data.reader import PairReader
from l2reg.evaluation.evaluate import as_json, score_submission, score_zero_field
from l2reg.evaluation.metrics import upsample
from l2reg.evaluation.table import score_table
from l2reg.files import written_whole
from l2reg.problems import InputError, Problem, raise_if_any
from l2reg.reporting.figures import determinant_figure, pair_figure
from l2reg.reporting.pairs import registered_pair
from l2reg.reporting.report import write_report
from l2reg.submission.bundle import Submission, open_submission


def evaluate_submissions(
    data: Dataset, split: str, paths: Sequence[Path], out: Path, *, report: bool
) -> list[Path]:
    """Print a table of official scores, and write ``scores.json`` and ``report.html``.

    Args:
        data: What to score on; images are read for the report alone.
        split: ``val`` or ``test``.
        paths: Zips or folders; the zero field is scored beside them.
        out: Folder of the files.
        report: Whether to write the page; its pictures show the last submission.

    Returns:
        The files written.

    Raises:
        InputError: If a truth or a submission is not as it must be.
    """
    task = data.release.task
    pairs = data.listed(split)
    raise_if_any(check_truth(pairs, task))
    if report:
        raise_if_any(check_pairs(pairs, task, data.volumes))
    submissions = _opened(paths, task.folder)
    progress = tqdm(pairs, "scoring the zero field", disable=None, leave=False)
    rows = {"zero field": [score_zero_field(pair, task) for pair in progress]}
    for name, submission in submissions.items():
        rows[name] = score_submission(submission, pairs, task)
    tqdm.write(score_table(rows))
    content: dict[str, Any] = {"task": task.name, "split": split}
    content |= {name: as_json(scores) for name, scores in rows.items()}
    with written_whole(out / "scores.json") as draft:
        draft.write_text(json.dumps(content, indent=1), encoding="utf-8")
    written = [out / "scores.json"]
    if report and submissions:
        last = list(submissions.values())[-1]
        reader = replace(data, prealign="none").reader("full")
        title = f"Task {task.name}, split {split}"
        write_report(out / "report.html", title, rows, _pictures(last, pairs, reader))
        written.append(out / "report.html")
    return written


def _opened(paths: Sequence[Path], task_folder: str) -> dict[str, Submission]:
    opened = {str(path): open_submission(path, task_folder) for path in paths}
    if len(opened) < len(paths):
        given = ", ".join(map(str, paths))
        raise InputError(
            Problem("submission", "names one twice", "different ones", given, "leave one out")
        )
    return opened


def _pictures(
    submission: Submission, pairs: Sequence[Pair], reader: PairReader
) -> Iterator[tuple[str, list[Figure]]]:
    for pair in tqdm(pairs, "drawing", disable=None, leave=False):
        disp = upsample(submission.read(pair.name, reader.task.grid))
        picture = pair_figure(registered_pair(pair, reader, disp), pair.name)
        yield f"Pair {pair.name}", [picture, determinant_figure(disp)]
