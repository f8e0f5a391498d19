"""Score files: this project's ``scores.json``, the organisers' two JSON forms, and CSV tables."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from l2reg.data.pairs import Pair
from l2reg.data.task import Task
from l2reg.evaluation.aggregate import aggregate, dsc30_and_tre30
from l2reg.evaluation.pair_scores import (
    PairScores,
    from_json,
    label_metric_names,
    lacking_pairs,
    metric_names,
)
from l2reg.evaluation.score_submissions import ZERO_FIELD, SubmissionScores
from l2reg.io.files import atomic_write, json_number, load_json, strict_json
from l2reg.problems import InputError, Problem
from l2reg.submission.rules import Rules

FORMAT = 2

_NAMES_2021 = {
    "dsc": "DiceCoefficient",
    "hd95_voxels": "HausdorffDistance95",
    "tre_mm": "TRE",
    "sdlogj": "LogJacDetStd",
}
_NAMES_CURRENT = {
    "sdlogj": "LogJacDetStd",
    "dsc": "DSC",
    "hd95_voxels": "HD95",
    "tre_mm": "TRE_lm",
    "tre_keypoints_mm": "TRE_kp",
}


def write_scores(
    path: Path, task: Task, rules: Rules, submissions: Mapping[str, SubmissionScores]
) -> None:
    """Write all scores of the submissions as JSON; see ``read_scores``.

    Args:
        path: Path of the JSON file.
        task: Task of the scores.
        rules: Rules of the scores.
        submissions: Scores of the zero field and of every submission, by name.
    """
    content = {
        "format": FORMAT,
        "task": task.name,
        "number": task.number,
        "rules": rules.name,
        "submissions": {name: as_json(s, submissions, rules) for name, s in submissions.items()},
    }
    with atomic_write(path) as temporary:
        temporary.write_text(strict_json(content, indent=1), encoding="utf-8")


def as_json(
    scores: SubmissionScores, submissions: Mapping[str, SubmissionScores], rules: Rules
) -> dict[str, Any]:
    """Return the scores of one submission as plain data.

    Args:
        scores: Scores of the submission.
        submissions: Scores by submission, the zero field included.
        rules: Rules of the scores.
    """
    names = {score.pair for score in scores.pairs}
    initial = [score for score in submissions[ZERO_FIELD].pairs if score.pair in names]
    return {
        "aggregates": aggregate(scores.pairs, rules),
        "pairs_with_value": {
            metric: len(scores.pairs) - len(lacking_pairs(scores.pairs, metric))
            for metric in metric_names(scores.pairs)
        },
        "thirty": dsc30_and_tre30(scores.pairs, initial, rules),
        "missing": list(scores.missing),
        "seconds": dict(scores.seconds),
        "notes": list(scores.notes),
        "pairs": {score.pair: score.to_json() for score in scores.pairs},
    }


def read_scores(path: Path) -> tuple[dict[str, Any], dict[str, SubmissionScores]]:
    """Read a file of ``write_scores``: its whole content, and the scores by submission.

    Raises:
        InputError: If the file is missing, unreadable or has another format.
    """
    try:
        content: dict[str, Any] = load_json(path)
        _check_head(content)
        submissions = {
            name: SubmissionScores(
                pairs=[from_json(pair) for pair in entry["pairs"].values()],
                missing=entry["missing"],
                seconds={p: json_number(s) for p, s in entry["seconds"].items()},
                notes=tuple(entry.get("notes", ())),  # files of earlier builds have none
            )
            for name, entry in content["submissions"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            Problem(
                where=str(path),
                what="cannot be read as scores",
                expected=f"a scores.json of l2reg evaluate, format {FORMAT}",
                found=f"{type(error).__name__}: {error}",
                remedy="write it with: l2reg evaluate task=... 'submission={team: file.zip}'",
            )
        ) from error
    return content, submissions


def _check_head(content: Mapping[str, Any]) -> None:
    """Raise a ``KeyError`` or ``ValueError`` for entries that ``write_scores`` does not write."""
    has_kinds = isinstance(content["task"], str) and isinstance(content["rules"], str)
    if content["format"] != FORMAT or not has_kinds or content["number"] < 0:
        head = {key: content[key] for key in ("format", "task", "number", "rules")}
        raise ValueError(str(head))
    if ZERO_FIELD not in content["submissions"]:
        raise ValueError(f"no {ZERO_FIELD}")


def write_official(
    path: Path, task: Task, pairs: Sequence[Pair], scores: SubmissionScores, rules: Rules
) -> None:
    """Write the scores of one submission in the form of the organisers' evaluation.

    Where the organisers' files have ``NaN`` and ``Infinity``, which are no JSON, these have null
    and ``"inf"``.

    Args:
        path: Path of the JSON file.
        task: Task of the scores.
        pairs: Pairs of the split; their order numbers the cases in the form of 2021.
        scores: Scores of the submission.
        rules: Rules of the scores; they select the form.
    """
    by_name = {score.pair: score for score in scores.pairs}
    entries = [(pair, by_name[pair.name]) for pair in pairs if pair.name in by_name]
    means = aggregate(scores.pairs, rules)
    content: dict[str, Any]
    if rules.full_resolution:
        content = {
            "name": task.layouts["current"].folder if "current" in task.layouts else task.name,
            "aggregates": {new: means[old] for old, new in _NAMES_CURRENT.items() if old in means},
            "cases": {_case_name(pair): _case_entry(score) for pair, score in entries},
            "eval_version": "2.0",
        }
    else:
        names = {old: new for old, new in _NAMES_2021.items() if old in means}
        cases = {
            new: {str(n): score.values().get(old, math.nan) for n, (_, score) in enumerate(entries)}
            for old, new in names.items()
        }
        aggregates = {new: means[old] for old, new in names.items()}
        content = {task.folder: {"case": cases, "aggregates": aggregates}}
    with atomic_write(path) as temporary:
        temporary.write_text(strict_json(content, indent=4), encoding="utf-8")


def write_tables(folder: Path, submissions: Mapping[str, SubmissionScores]) -> list[Path]:
    """Write the scores as CSV tables, and return the paths written.

    ``cases.csv`` has one row per submission and pair, ``labels.csv`` one row per submission, pair
    and label. A table without rows is not written.
    """
    scored = [score for scores in submissions.values() for score in scores.pairs]
    pair_columns = ["submission", "pair", *metric_names(scored, official=False), "seconds"]
    label_columns = ["submission", "pair", "label", *label_metric_names(scored)]
    cases, labels = [], []
    for name, scores in submissions.items():
        for score in scores.pairs:
            row = {"submission": name, "pair": score.pair}
            cases.append({**row, **score.all_values(), "seconds": scores.seconds.get(score.pair)})
            by_label = score.by_label()
            labels += [
                {**row, "label": label, **{m: v[label] for m, v in by_label.items()}}
                for label in score.dsc
            ]
    paths = []
    for path, rows, columns in (
        (folder / "cases.csv", cases, pair_columns),
        (folder / "labels.csv", labels, label_columns),
    ):
        if rows:
            with (
                atomic_write(path) as temporary,
                temporary.open("w", newline="", encoding="utf-8") as out,
            ):
                writer = csv.DictWriter(out, columns, restval="")
                writer.writeheader()
                writer.writerows(rows)
            paths.append(path)
    return paths


def _case_name(pair: Pair) -> str:
    """Return the organisers' name of a pair."""

    def side(number: int, path: Path) -> str:
        stem = path.name.removesuffix(".nii.gz")
        return f"{number:04}_{stem[-4:] if stem[-4:].isdigit() else '0000'}"

    fixed, moving = pair.fixed, pair.moving
    return f"{side(fixed.id, fixed.image)}<--{side(moving.id, moving.image)}"


def _case_entry(score: PairScores) -> dict[str, Any]:
    """Return the scores of a pair in the organisers' current form."""
    detailed = {
        "sdlogj": score.change.sdlogj,
        "dsc": list(score.dsc.values()),
        "hd95_voxels": list(score.hd95_voxels.values()),
        "tre_mm": list(score.tre_mm),
        "tre_keypoints_mm": list(score.tre_keypoints_mm),
    }
    values = score.values()
    case = {
        new: {"mean": values[old], "detailed": detailed[old]}
        for old, new in _NAMES_CURRENT.items()
        if old in values
    }
    return {
        **case,
        "num_foldings": {"mean": 0.0, "detailed": 0.0},
    }  # official: counted after the 3 is added
