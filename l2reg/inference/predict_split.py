"""Prediction of a split: fields, submission zip, runtimes as in the challenge, and scores."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from l2reg.config.build import build
from l2reg.config.task_nodes import node_name
from l2reg.data.check import check_pairs, compare_headers_of
from l2reg.data.dataset import Dataset
from l2reg.data.pairs import Pair
from l2reg.data.task import Task
from l2reg.evaluation.pair_scores import PairScores
from l2reg.evaluation.score_field import has_ground_truth, load_ground_truth, score_field
from l2reg.evaluation.score_files import write_scores
from l2reg.evaluation.score_submissions import (
    ZERO_FIELD,
    SubmissionScores,
    score_submissions,
    submitted_field,
)
from l2reg.evaluation.tables import score_table, submission_notes
from l2reg.geometry.resize import resize_field
from l2reg.inference.outputs import Extra, check_extras, extra_problems, save_extras
from l2reg.inference.predictor import Predictor
from l2reg.inference.prepare import OWN_KEYS, prepare_method
from l2reg.io.files import atomic_write
from l2reg.io.output_folders import OutputKind, claim_output_folder
from l2reg.problems import InputError, Problem, raise_if_any
from l2reg.submission.bundle import (
    Submission,
    open_submission,
    write_bundle,
    write_full_bundle,
)
from l2reg.submission.export import check_grid, export_field
from l2reg.submission.records import write_notes, write_timings
from l2reg.submission.rules import Rules, rules_by_name
from l2reg.wording import quantity


@dataclass(frozen=True)
class SplitPrediction:
    """Result of the prediction of a split.

    Attributes:
        zip_path: The submission.
        seconds: The runtime of each pair by name, from the first read to the last write.
        scores: The rows of the score table: ``zero field``, ``full resolution``, ``submission``;
            empty without ground truth.
    """

    zip_path: Path
    seconds: dict[str, float]
    scores: dict[str, SubmissionScores]


def predict_split(
    predictor: Predictor,
    pairs: Sequence[Pair],
    out: Path,
    save: Sequence[Extra],
    rules: Rules,
    score_notes: Sequence[str] = (),
) -> SplitPrediction:
    """Write the fields of pairs, the submission zip, runtimes, notes and scores below ``out``.

    Args:
        predictor: The method and the reader of pairs.
        pairs: The pairs, already checked (``data.check``); one is in memory at a time.
        out: An existing folder to write to.
        save: Extra outputs to write below ``out/extra``.
        rules: The rules that give the form of the fields and by which they are scored.
        score_notes: Notes on how to read the scores, which go with the submission.

    Raises:
        InputError: If an extra output is unknown, a file is unreadable, or the zip is incorrect.
    """
    check_extras(save)
    task = predictor.reader.task
    scored = bool(pairs) and all(has_ground_truth(pair, task) for pair in pairs)
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
            full = resize_field(disp, task.shape).cpu()
            save_extras(out / "extra", pair, full, save)
            if scored:
                truth = load_ground_truth(pair, task, rules)
                full_scores.append(score_field(pair.name, full[0].numpy(), truth, task))
    write_timings(out, seconds)
    write_notes(out, score_notes)
    zip_path = out / f"{task.folder}.zip"
    if rules.full_resolution:
        write_full_bundle(out / "submission", zip_path)
    else:
        write_bundle(out / "submission", task.folder, zip_path)
    submission = open_submission(zip_path, task, pairs, rules)
    if not scored:
        _read_all(submission, pairs, task, rules)
        without = [pair.name for pair in pairs if not has_ground_truth(pair, task)]
        tqdm.write(
            f"nothing is scored: without labels of both scans and without landmarks are "
            f"{len(without)} of {quantity(len(pairs), 'pair')}: {', '.join(without)}"
        )
        for note in submission.notes():
            tqdm.write(f"note: {note}")
        return SplitPrediction(zip_path, seconds, {})
    scores = _score_zip(submission, pairs, task, rules, full_scores)
    write_scores(out / "scores.json", task, rules, scores)
    return SplitPrediction(zip_path, seconds, scores)


def _score_zip(
    submission: Submission,
    pairs: Sequence[Pair],
    task: Task,
    rules: Rules,
    full_scores: Sequence[PairScores],
) -> dict[str, SubmissionScores]:
    """Score the fields as they are in the zip, and print the score table."""
    by_name = score_submissions({"submission": submission}, pairs, task, rules, workers=1)
    scores = {
        ZERO_FIELD: by_name[ZERO_FIELD],
        "full resolution": SubmissionScores(full_scores, notes=by_name["submission"].notes),
        "submission": by_name["submission"],
    }
    table = score_table({name: row.pairs for name, row in scores.items()}, rules)
    tqdm.write("\n".join([table, *submission_notes(scores)]))
    return scores


def _read_all(submission: Submission, pairs: Sequence[Pair], task: Task, rules: Rules) -> None:
    """Check the zip by reading every field, where there is no ground truth to score with."""
    for pair in pairs:
        submitted_field(submission, pair, task, rules)


CONFIG = "config.yaml"


@dataclass(frozen=True)
class PredictionJob:
    """A prediction that is ready to run.

    Attributes:
        predictor: The method and the reader of pairs.
        pairs: The pairs of the split, already checked.
        out: An empty folder, held for this process, to write to.
        rules: The rules that give the form of the fields.
        notes: Notes on how to read the scores: data leakage, labels used.
    """

    predictor: Predictor
    pairs: list[Pair]
    out: Path
    rules: Rules
    notes: list[str] = field(default_factory=list)


def prepare_prediction(config: Mapping[str, Any], overrides: Sequence[str]) -> PredictionJob:
    """Check options, data and output folder, then build a predictor.

    Args:
        config: The resolved config that ``configs/predict.yaml`` composes.
        overrides: The keys given on the command line. With a checkpoint only their values are taken
            from ``config``; all others are those of the training run.

    Raises:
        InputError: If options, checkpoint, data or the output folder are incorrect.
    """
    check_extras(config["save"])
    rules = rules_by_name(config["rules"])
    prepared = prepare_method(config, overrides)
    base, split = prepared.config, config["split"]
    out = Path(config["out"] or default_out(config))
    task = build(base["task"], "task", base["trust"])
    data: Dataset = build(base["data"], "data", base["trust"], task=task)
    if prepared.trained is not None and "data.exclude" not in overrides:
        data = data.keep_known_exclusions()
    check_grid(data.release.task, rules)
    pairs = data.split_pairs(split)
    problems = check_pairs(pairs, data.release.task, data.volume_cache, prealign=data.prealign)
    raise_if_any(dict.fromkeys([*problems, *extra_problems(pairs, config["save"])]))
    for warning in compare_headers_of(pairs):
        tqdm.write(f"warning: {warning}")
    uncached = replace(data, cache=None)  # runtimes include reading the files
    trained = prepared.trained
    notes = [*trained.fallback_notes, *trained.leakage_notes(pairs)] if trained is not None else []
    method = prepared.method
    if method.refinement is not None and method.refinement.label_weight > 0:
        notes.append(_label_note(data, pairs))
    predictor = Predictor(method, uncached.reader, data.with_pseudo_labels_only)
    inputs = [*data.inputs, *([prepared.trained.path] if prepared.trained else [])]
    claim_output_folder(out, OutputKind.PREDICTION, overwrite=config["overwrite"], inputs=inputs)
    used = {key: config[key] for key in OWN_KEYS} | {k: base[k] for k in ("task", "model", "data")}
    used["refine"] = config.get("refine") or "none"
    with atomic_write(out / CONFIG) as temporary:
        temporary.write_text(yaml.safe_dump(used, sort_keys=False), encoding="utf-8")
    return PredictionJob(predictor, pairs, out, rules, notes)


def _label_note(data: Dataset, pairs: Sequence[Pair]) -> str:
    """Return a note on the number of pairs whose labels the refinement compares.

    Raises:
        InputError: If no pair has labels of both scans.
    """
    readable = [data.with_pseudo_labels_only(pair) for pair in pairs]
    n_both = sum(p.fixed.labels is not None and p.moving.labels is not None for p in readable)
    root = data.pseudo_labels.root
    if not n_both:
        raise InputError(
            Problem(
                where="refine.label_weight",
                what="has no labels to compare",
                expected="label maps of both scans, with the names of the scans, in "
                "data.pseudo_labels.root=FOLDER; labels that pairs are scored with are never read",
                found=f"none for {quantity(len(pairs), 'pair')} in {root}"
                if root
                else "no such folder is given",
                remedy="write them with a segmentation tool, or leave refine.label_weight at 0",
            )
        )
    return f"labels from {root} were compared in {n_both} of {quantity(len(pairs), 'pair')}"


def default_out(config: Mapping[str, Any]) -> Path:
    """Return the output folder of a prediction whose ``out`` is null."""
    if config["ckpt"] is not None:
        checkpoint = Path(config["ckpt"])
        return (
            checkpoint if checkpoint.is_dir() else checkpoint.parent
        ) / f"predict_{config['split']}"
    return (
        Path("out") / f"{node_name(config['model'])}_{node_name(config['task'])}_{config['split']}"
    )
