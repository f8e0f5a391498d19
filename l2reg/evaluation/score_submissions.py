"""Score submissions of one task: in parallel, and never the same field twice."""

import hashlib
import json
import multiprocessing
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tqdm import tqdm

from l2reg.data.pairs import Pair
from l2reg.data.task import Task
from l2reg.evaluation.pair_scores import PairScores, from_json
from l2reg.evaluation.score_field import load_ground_truth, score_field, zero_field
from l2reg.io.files import atomic_write, content_digest
from l2reg.problems import InputError
from l2reg.runtime import configure_malloc
from l2reg.submission.bundle import Submission, missing_fields
from l2reg.submission.fields import FullField, read_field, read_full_field
from l2reg.submission.half_resolution import upsample
from l2reg.submission.rules import Rules

VERSION = 1  # raise when the same field gets other scores
ZERO_FIELD = "zero field"

_JOBS_WORTH_PROCESSES = 8  # starting a process costs as much as scoring a few fields


@dataclass(frozen=True)
class SubmissionScores:
    """The scores of one submission.

    Attributes:
        pairs: In the order of the list of pairs, those that are missing left out.
        missing: Names of the pairs that it has no field of.
        seconds: Runtime of each pair by name, where it is known.
    """

    pairs: Sequence[PairScores]
    missing: Sequence[str] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Job:
    """One field to be scored; ``submission`` is ``None`` for the zero field."""

    submission: Submission | None
    pair: Pair
    task: Task
    rules: Rules


def score_submissions(
    submissions: Mapping[str, Submission],
    pairs: Sequence[Pair],
    task: Task,
    rules: Rules,
    *,
    allow_missing: bool = False,
    cache: Path | None = None,
    workers: int | None = 1,
) -> dict[str, SubmissionScores]:
    """Return the scores of the zero field and of every submission, by name.

    Args:
        submissions: By name.
        pairs: What to score.
        task: Of the release that the pairs come from.
        rules: Of which generation.
        allow_missing: Whether to score the rest where fields are missing.
        cache: Folder that remembers scores by the content of field and truth, or ``None``.
        workers: Processes; ``None`` for one a core if there is enough to do.

    Raises:
        InputError: If fields are missing, of all submissions at once, or one is not as it must be.
    """
    lacking = [missing_fields(s, pairs) for s in submissions.values() if s.missing(pairs)]
    if lacking and not allow_missing:
        raise InputError(lacking)
    jobs = {
        (name, pair.name): _Job(submission, pair, task, rules)
        for name, submission in ({ZERO_FIELD: None} | dict(submissions)).items()
        for pair in pairs
        if submission is None or submission.member(pair) is not None
    }
    found: dict[tuple[str, str], PairScores] = {}
    with tqdm(total=len(jobs), desc="scoring", disable=None, leave=False) as progress:
        for key, scores in _scored(jobs, cache, workers):
            found[key] = scores
            progress.update()
    return {
        name: SubmissionScores(
            pairs=[found[name, pair.name] for pair in pairs if (name, pair.name) in found],
            missing=submissions[name].missing(pairs) if name in submissions else (),
            seconds=submissions[name].seconds() if name in submissions else {},
        )
        for name in (ZERO_FIELD, *submissions)
    }


def submitted_field(submission: Submission, pair: Pair, task: Task, rules: Rules) -> FullField:
    """Return a submitted field on the full grid, as the organisers see it.

    Raises:
        InputError: If it is not as it must be.
    """
    content = submission.content(pair)
    where = f"{submission.path}: {submission.member(pair)}"
    if rules.full_resolution:
        return read_full_field(content, where, task.shape)
    return upsample(read_field(content, where, task.shape))


def _scored(
    jobs: Mapping[tuple[str, str], _Job], cache: Path | None, workers: int | None
) -> Iterator[tuple[tuple[str, str], PairScores]]:
    """Yield scores by key: first what is remembered, then the others as they come."""
    paths = {key: _remembered_at(cache, job) for key, job in jobs.items()}
    waiting = {}
    for key, job in jobs.items():
        path = paths[key]
        if path is not None and path.is_file():
            yield key, from_json(json.loads(path.read_text(encoding="utf-8")))
        else:
            waiting[key] = job
    for key, scores in _computed(waiting, workers):
        path = paths[key]
        if path is not None:
            with atomic_write(path) as draft:
                draft.write_text(json.dumps(scores.to_json()), encoding="utf-8")
        yield key, scores


def _computed(
    jobs: Mapping[tuple[str, str], _Job], workers: int | None
) -> Iterator[tuple[tuple[str, str], PairScores]]:
    cores = os.cpu_count() or 1
    if workers is None:
        workers = cores if len(jobs) >= _JOBS_WORTH_PROCESSES else 1
    workers = min(workers, len(jobs))
    if workers <= 1:
        yield from ((key, _score(job)) for key, job in jobs.items())
        return
    spawn = multiprocessing.get_context("spawn")  # threads of a forked process may hang
    threads = max(1, cores // workers)
    with ProcessPoolExecutor(workers, spawn, _start_worker, (threads,)) as pool:
        futures = {pool.submit(_score, job): key for key, job in jobs.items()}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _start_worker(threads: int) -> None:
    configure_malloc()
    torch.set_num_threads(threads)


def _score(job: _Job) -> PairScores:
    task, pair = job.task, job.pair
    if job.submission is None:
        disp = zero_field(task)
    else:
        disp = submitted_field(job.submission, pair, task, job.rules)
    return score_field(pair.name, disp, load_ground_truth(pair, task, job.rules), task)


def _remembered_at(cache: Path | None, job: _Job) -> Path | None:
    """Return the file that remembers a job's scores: named by all that they depend on."""
    if cache is None:
        return None
    pair, task = job.pair, job.task
    field_bytes = b"zero" if job.submission is None else job.submission.content(pair)
    files = [pair.fixed.labels, pair.moving.labels, pair.fixed.mask]
    for points in (pair.landmarks, pair.keypoints):
        files += [None, *points.paths] if points else [None]
    key = [
        VERSION,
        pair.name,
        hashlib.sha256(field_bytes).hexdigest(),
        [content_digest(path) if path else None for path in files],
        [job.rules.name, list(task.labels), task.shape, task.spacing_mm, list(task.sdlogj_masked)],
    ]
    return cache / "scores" / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:40]}.json"
