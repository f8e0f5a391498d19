"""Predict a split into a folder, timed as the challenge does, re-read and scored."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from l2reg.data.cases import Pair
from l2reg.data.task import Task
from l2reg.evaluation.evaluate import can_be_scored, load_truth, score_field
from l2reg.evaluation.pair_scores import PairScores
from l2reg.evaluation.rules import Rules
from l2reg.evaluation.score_files import write_scores
from l2reg.evaluation.scoring import (
    ZERO_FIELD,
    SubmissionScores,
    score_submissions,
    submitted_field,
)
from l2reg.evaluation.table import score_table
from l2reg.geometry.resize import resize_field
from l2reg.inference.export import export_field
from l2reg.inference.extras import Extra, check_extras, save_extras
from l2reg.inference.predictor import Predictor
from l2reg.submission.bundle import (
    Submission,
    open_submission,
    write_bundle,
    write_full_bundle,
    write_timings,
)


@dataclass(frozen=True)
class Predicted:
    """What a prediction made.

    Attributes:
        zip_path: The submission.
        seconds: Time per pair, from the first read to the last write.
        scores: Rows of the score table: ``zero field``, ``full resolution``, ``submission``;
            empty where nothing is known to score with.
    """

    zip_path: Path
    seconds: dict[str, float]
    scores: dict[str, SubmissionScores]


def predict_split(
    predictor: Predictor, pairs: Sequence[Pair], out: Path, save: Sequence[Extra], rules: Rules
) -> Predicted:
    """Write the fields of ``pairs``, the zip, timings and scores below ``out``.

    Args:
        predictor: Model and reader.
        pairs: Checked before (``data.check``); one is in memory at a time.
        out: Exists and may be written to.
        save: What to write below ``out/extra`` besides.
        rules: Whose form the fields have, and by which they are scored.

    Raises:
        InputError: If an extra is unknown, a file unreadable, or the zip not as it must be.
    """
    check_extras(save)
    task = predictor.reader.task
    scored = bool(pairs) and all(can_be_scored(pair, task) for pair in pairs)
    seconds: dict[str, float] = {}
    full_scores: list[PairScores] = []
    predictor.warm_up()
    for pair in tqdm(pairs, "predicting", disable=None):
        started_at = time.perf_counter()
        disp = predictor.register(pair)
        export_field(disp, pair, task, out / "submission", rules)
        seconds[pair.name] = time.perf_counter() - started_at
        tqdm.write(f"{pair.name}  {seconds[pair.name]:.2f} s")
        if scored or save:
            full = resize_field(disp, task.grid).cpu()
            save_extras(out / "extra", pair, full, save)
            if scored:
                truth = load_truth(pair, task, rules)
                full_scores.append(score_field(pair.name, full[0].numpy(), truth, task))
    write_timings(out, seconds)
    zip_path = out / f"{task.folder}.zip"
    if rules.full_resolution:
        write_full_bundle(out / "submission", zip_path)
    else:
        write_bundle(out / "submission", task.folder, zip_path)
    submission = open_submission(zip_path, task.folder, full_resolution=rules.full_resolution)
    if not scored:
        _read_all(submission, pairs, task, rules)
        return Predicted(zip_path, seconds, {})
    scores = _verified(submission, pairs, task, rules, full_scores)
    write_scores(out / "scores.json", task, rules, scores)
    return Predicted(zip_path, seconds, scores)


def _verified(
    submission: Submission,
    pairs: Sequence[Pair],
    task: Task,
    rules: Rules,
    full_scores: Sequence[PairScores],
) -> dict[str, SubmissionScores]:
    """Score what the organisers will see: the fields as they lie in the zip."""
    found = score_submissions({"submission": submission}, pairs, task, rules, workers=1)
    scores = {
        ZERO_FIELD: found[ZERO_FIELD],
        "full resolution": SubmissionScores(full_scores),
        "submission": found["submission"],
    }
    tqdm.write(score_table({name: row.pairs for name, row in scores.items()}, rules))
    return scores


def _read_all(submission: Submission, pairs: Sequence[Pair], task: Task, rules: Rules) -> None:
    for pair in pairs:
        submitted_field(submission, pair, task, rules)
    tqdm.write("neither labels nor landmarks are at hand for every pair: nothing is scored")
