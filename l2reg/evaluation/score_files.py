"""Scores on disk: this project's JSON, the organisers' two, and tables as CSV."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from l2reg.data.pairs import Pair
from l2reg.data.task import Task
from l2reg.evaluation.aggregate import aggregate, dsc30_and_tre30
from l2reg.evaluation.pair_scores import PairScores, from_json, json_ready
from l2reg.evaluation.score_submissions import ZERO_FIELD, SubmissionScores
from l2reg.io.files import atomic_write
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
    path: Path, task: Task, rules: Rules, scored: Mapping[str, SubmissionScores]
) -> None:
    """Write everything that is known of the submissions; ``read_scores`` reads it.

    Args:
        path: The JSON file.
        task: What was scored.
        rules: Likewise.
        scored: The zero field and every submission, by name.
    """
    content = {
        "format": FORMAT,
        "task": task.name,
        "number": task.number,
        "rules": rules.name,
        "submissions": {name: as_json(s, scored, rules) for name, s in scored.items()},
    }
    with atomic_write(path) as draft:
        draft.write_text(json.dumps(json_ready(content), indent=1), encoding="utf-8")


def as_json(
    scores: SubmissionScores, scored: Mapping[str, SubmissionScores], rules: Rules
) -> dict[str, Any]:
    """Return one submission's scores as plain data."""
    names = {score.pair for score in scores.pairs}
    initial = [score for score in scored[ZERO_FIELD].pairs if score.pair in names]
    return {
        "aggregates": aggregate(scores.pairs, rules),
        "thirty": dsc30_and_tre30(scores.pairs, initial, rules),
        "missing": list(scores.missing),
        "seconds": dict(scores.seconds),
        "pairs": {score.pair: score.to_json() for score in scores.pairs},
    }


def read_scores(path: Path) -> tuple[dict[str, Any], dict[str, SubmissionScores]]:
    """Read what ``write_scores`` wrote: the whole content, and the scores by name.

    Raises:
        InputError: If it is no such file.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}")
        scored = {
            name: SubmissionScores(
                pairs=[from_json(pair) for pair in entry["pairs"].values()],
                missing=entry["missing"],
                seconds=entry["seconds"],
            )
            for name, entry in content["submissions"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            Problem(
                where=str(path),
                what="cannot be read as scores",
                expected=f"a scores.json of evaluate.py, format {FORMAT}",
                found=f"{type(error).__name__}: {error}",
                remedy="write it with: python evaluate.py task=... 'submission={team: file.zip}'",
            )
        ) from error
    return content, scored


def write_official(
    path: Path, task: Task, pairs: Sequence[Pair], scores: SubmissionScores, rules: Rules
) -> None:
    """Write one submission's scores in the form that the organisers' evaluation writes.

    As there, nan and inf are spelt ``NaN`` and ``Infinity``.
    """
    by_name = {score.pair: score for score in scores.pairs}
    kept = [(pair, by_name[pair.name]) for pair in pairs if pair.name in by_name]
    means = aggregate(scores.pairs, rules)
    content: dict[str, Any]
    if rules.full_resolution:
        content = {
            "name": task.layouts["current"].folder if "current" in task.layouts else task.name,
            "aggregates": {new: means[old] for old, new in _NAMES_CURRENT.items() if old in means},
            "cases": {_case_name(pair): _case(score) for pair, score in kept},
            "eval_version": "2.0",
        }
    else:
        known = {old: new for old, new in _NAMES_2021.items() if old in means}
        cases = {
            new: {str(n): score.values().get(old, math.nan) for n, (_, score) in enumerate(kept)}
            for old, new in known.items()
        }
        aggregates = {new: means[old] for old, new in known.items()}
        content = {task.folder: {"case": cases, "aggregates": aggregates}}
    with atomic_write(path) as draft:
        draft.write_text(json.dumps(content, indent=4), encoding="utf-8")


def write_tables(folder: Path, scored: Mapping[str, SubmissionScores]) -> list[Path]:
    """Write ``cases.csv``, a row per submission and pair, and ``labels.csv``, one per label too."""
    cases, labels = [], []
    for name, scores in scored.items():
        for score in scores.pairs:
            own = {"submission": name, "pair": score.pair}
            cases.append({**own, **score.all_values(), "seconds": scores.seconds.get(score.pair)})
            labelled = score.by_label()
            labels += [
                {**own, "label": label, **{metric: v[label] for metric, v in labelled.items()}}
                for label in score.dsc
            ]
    written = []
    for path, rows in ((folder / "cases.csv", cases), (folder / "labels.csv", labels)):
        if rows:
            with atomic_write(path) as draft, draft.open("w", newline="", encoding="utf-8") as out:
                writer = csv.DictWriter(out, list(rows[0]), restval="")
                writer.writeheader()
                writer.writerows(rows)
            written.append(path)
    return written


def _case_name(pair: Pair) -> str:
    def side(number: int, path: Path) -> str:
        stem = path.name.removesuffix(".nii.gz")
        return f"{number:04}_{stem[-4:] if stem[-4:].isdigit() else '0000'}"

    fixed, moving = pair.fixed, pair.moving
    return f"{side(fixed.id, fixed.image)}<--{side(moving.id, moving.image)}"


def _case(score: PairScores) -> dict[str, Any]:
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
    return {**case, "num_foldings": {"mean": 0.0, "detailed": 0.0}}  # counted after the 3 is added
