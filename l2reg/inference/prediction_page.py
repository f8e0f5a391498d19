"""HTML report of a predicted split: scores where there is ground truth, and pairs to look at."""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from l2reg.config.task_nodes import node_name
from l2reg.data.reader import PairReader
from l2reg.evaluation.score_submissions import ZERO_FIELD
from l2reg.inference.predict_split import PredictionJob, SplitPrediction
from l2reg.reporting.evaluate_submissions import draw_pairs
from l2reg.reporting.page import provenance
from l2reg.reporting.report import worst_first, write_report
from l2reg.submission.bundle import open_submission


def prediction_details(config: Mapping[str, Any]) -> dict[str, str]:
    """Return how ``l2reg predict`` makes its results, for ``provenance``.

    Args:
        config: The config of ``l2reg predict``.
    """
    return {
        "command": shlex.join(["l2reg", "predict", *sys.argv[1:]]),
        "model": "" if config["ckpt"] else node_name(config["model"]),
        "checkpoint": str(config["ckpt"] or ""),
    }


def write_prediction_page(
    path: Path,
    job: PredictionJob,
    prediction: SplitPrediction,
    split: str,
    details: Mapping[str, str],
) -> None:
    """Write a page on the fields of a split, as they are in the submission.

    Args:
        path: HTML file to write.
        job: The prediction.
        prediction: Its result.
        split: The split.
        details: How it was made, see ``prediction_details``.
    """
    reader = job.predictor.reader
    submission = open_submission(prediction.zip_path, reader.task, job.pairs, job.rules)
    scores = prediction.scores
    order = [pair.name for pair in job.pairs]
    if scores:
        worst = worst_first(scores["submission"].pairs, scores[ZERO_FIELD].pairs)
        order = [score.pair for score in worst]
    full = PairReader(reader.task, "full", reader.prealign, reader.cache)
    device, notes = str(job.predictor.device), "; ".join(job.notes)
    made = provenance(**details, device=device, notes=notes)
    title = f"Prediction of task {reader.task.name}, split {split}"
    pictures = draw_pairs(submission, job.pairs, order, full, job.rules)
    write_report(path, title, scores, pictures, reader.task, job.rules, made)
