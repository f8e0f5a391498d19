"""Scoring of the submissions of one task, in parallel and with a cache of scores by content."""

import hashlib
import json
import multiprocessing
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tqdm import tqdm

from l2reg.data.pairs import Pair
from l2reg.data.task import Task
from l2reg.evaluation.pair_scores import PairScores, from_json
from l2reg.evaluation.score_field import load_ground_truth, score_field, zero_field
from l2reg.io.files import atomic_write, content_digest, load_json, strict_json
from l2reg.problems import InputError, Problem
from l2reg.runtime import configure_malloc
from l2reg.submission.bundle import Submission, missing_fields
from l2reg.submission.fields import FullField, read_field, read_full_field
from l2reg.submission.half_resolution import upsample
from l2reg.submission.rules import Rules

VERSION = 1  # of the cache; raise when the same field gets other scores
ZERO_FIELD = "zero field"

_JOBS_WORTH_PROCESSES = 8  # starting a process costs as much as scoring a few fields


@dataclass(frozen=True)
class SubmissionScores:
    """The scores of one submission.

    Attributes:
        pairs: Scores of the pairs, in the order of the list of pairs, without missing pairs.
        missing: Names of the pairs that the submission has no field of.
        seconds: Runtime by pair, in seconds, if known.
        notes: Notes on how to read the scores: data leakage, labels used.
    """

    pairs: Sequence[PairScores]
    missing: Sequence[str] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class _Job:
    """A field to be scored; ``submission`` is ``None`` for the zero field."""

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
        submissions: Submissions by name.
        pairs: Pairs to score.
        task: Task of the release that the pairs come from.
        rules: Rules of the evaluation.
        allow_missing: Whether submissions with missing fields are scored on their other pairs.
        cache: Folder of scores, cached by the content of field and ground truth; ``None`` for no
            cache.
        workers: Number of processes; ``None`` for one per core if there are enough fields.

    Raises:
        InputError: If fields are missing, for all submissions at once, or if a field is invalid.
    """
    incomplete = [missing_fields(s, pairs) for s in submissions.values() if s.missing(pairs)]
    if incomplete and not allow_missing:
        raise InputError(incomplete)
    jobs = {
        (name, pair.name): _Job(submission, pair, task, rules)
        for name, submission in ({ZERO_FIELD: None} | dict(submissions)).items()
        for pair in pairs
        if submission is None or submission.member(pair) is not None
    }
    scores_by_job: dict[tuple[str, str], PairScores] = {}
    with tqdm(total=len(jobs), desc="scoring", disable=None, leave=False) as progress:
        for key, scores in _score_jobs(jobs, cache, workers):
            scores_by_job[key] = scores
            progress.update()
    return {
        name: SubmissionScores(
            pairs=[
                scores_by_job[name, pair.name]
                for pair in pairs
                if (name, pair.name) in scores_by_job
            ],
            missing=submissions[name].missing(pairs) if name in submissions else (),
            seconds=submissions[name].seconds() if name in submissions else {},
            notes=submissions[name].notes() if name in submissions else (),
        )
        for name in (ZERO_FIELD, *submissions)
    }


def submitted_field(submission: Submission, pair: Pair, task: Task, rules: Rules) -> FullField:
    """Read a submitted field, on the full grid as in the organisers' evaluation.

    Raises:
        InputError: If the field is invalid.
    """
    content = submission.content(pair)
    where = f"{submission.path}: {submission.member(pair)}"
    if rules.full_resolution:
        return read_full_field(content, where, task.shape)
    return upsample(read_field(content, where, task.shape))


def _score_jobs(
    jobs: Mapping[tuple[str, str], _Job], cache: Path | None, workers: int | None
) -> Iterator[tuple[tuple[str, str], PairScores]]:
    """Yield scores by key: cached ones first, then the others in order of completion."""
    paths = {key: _cache_path(cache, job) for key, job in jobs.items()}
    uncached = {}
    for key, job in jobs.items():
        cached = _read_scores(paths[key])
        if cached is None:
            uncached[key] = job
        else:
            yield key, cached
    for key, scores in _run_jobs(uncached, workers):
        path = paths[key]
        if path is not None:
            with atomic_write(path) as temporary:
                temporary.write_text(strict_json(scores.to_json()), encoding="utf-8")
        yield key, scores


def _read_scores(path: Path | None) -> PairScores | None:
    """Return cached scores; ``None`` if there are none, or if the file is damaged."""
    try:
        return from_json(load_json(path)) if path else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _run_jobs(
    jobs: Mapping[tuple[str, str], _Job], workers: int | None
) -> Iterator[tuple[tuple[str, str], PairScores]]:
    """Yield the scores of all jobs by key, computed in this process or in several."""
    cores = os.cpu_count() or 1
    if workers is None:
        workers = cores if len(jobs) >= _JOBS_WORTH_PROCESSES else 1
    workers = min(workers, len(jobs))
    if workers <= 1:
        yield from ((key, _score_job(job)) for key, job in jobs.items())
        return
    spawn = multiprocessing.get_context("spawn")  # a forked process may hang in its threads
    threads = max(1, cores // workers)
    with ProcessPoolExecutor(workers, spawn, _start_worker, (threads,)) as pool:
        futures = {pool.submit(_score_job, job): key for key, job in jobs.items()}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise InputError(_lost_process(workers)) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _lost_process(workers: int) -> Problem:
    return Problem(
        where=f"workers={workers}",
        what="lost a process",
        expected="processes that run to their end",
        found="one that was ended from outside, perhaps as memory ran out",
        remedy="workers=1, or fewer than now",
    )


def _start_worker(threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends the pool
    configure_malloc()
    torch.set_num_threads(threads)


def _score_job(job: _Job) -> PairScores:
    task, pair = job.task, job.pair
    if job.submission is None:
        disp = zero_field(task)
    else:
        disp = submitted_field(job.submission, pair, task, job.rules)
    return score_field(pair.name, disp, load_ground_truth(pair, task, job.rules), task)


def _cache_path(cache: Path | None, job: _Job) -> Path | None:
    """Return the cache file of a job's scores, named by a hash of everything they depend on."""
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
