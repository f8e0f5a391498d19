"""Time the official scores of one brain pair, the organisers' steps beside ours, and the memory.

python -m benchmarks.operators.bench_evaluate --repeat 3 --threads 2

The pair is the first validation pair of OASIS below L2REG_DATA, else one of the phantom's brains
of the same size and labels; the field is smooth noise in the challenge's form, with some folds.
The organisers' steps are SciPy's and those of ``surface-distance`` (``pip install -e .[bench]``),
in one thread as they run there. Both start from the same arrays; reading files is not timed. The
scores of both are compared: exit status 1 if they differ. Memory is what a fresh process peaked at
(VmHWM of Linux) less what it held with the inputs (VmRSS). ``--threads`` are those of ours.
"""

import argparse
import math
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import surface_distance as official  # type: ignore[import-untyped]
import torch
from scipy.ndimage import correlate, gaussian_filter, map_coordinates, zoom

from l2reg.config.build import build
from l2reg.config.presets import load_preset
from l2reg.data.task import Task
from l2reg.evaluation.metrics import dice, outside_fraction, warp_labels
from l2reg.evaluation.score_field import (
    GroundTruth,
    _label_distances,
    load_ground_truth,
    score_field,
)
from l2reg.evaluation.volume_change import folded_volume, volume_change
from l2reg.phantom.make import phantom_task
from l2reg.runtime import configure_malloc
from l2reg.submission.fields import FullField
from l2reg.submission.half_resolution import HalfField, upsample
from l2reg.submission.rules import RULES

TOLERANCES = {"dsc": 1e-12, "hd95": 1e-9, "sdlogj": 1e-6}
AT_ONCE = "score_field(upsample(half), ...)"
Scores = dict[str, Mapping[int, float]]


@dataclass(frozen=True)
class Case:
    """What both sides start from."""

    name: str
    task: Task
    truth: GroundTruth
    half: HalfField


def load_case() -> Case:
    """Read the pair and make its field."""
    with tempfile.TemporaryDirectory() as folder:
        if os.environ.get("L2REG_DATA"):
            task: Task = build(load_preset("task", "oasis"))
        else:
            task = phantom_task("oasis", "full", seed=0, pairs=4, root=f"{folder}/phantom")
        pair = build(load_preset("data", "default"), task=task).split_pairs("val")[0]
        truth = load_ground_truth(pair, task, RULES["2021"])
    noise = np.random.default_rng(0).standard_normal((3, *(size // 2 for size in task.shape)))
    smooth = np.stack([gaussian_filter(component, 3.0) for component in noise])
    half = (smooth / smooth.std() * 2).astype(np.float16)  # SD of 2 voxels
    return Case(f"{task.name} {pair.name}", task, truth, half)


def reference(case: Case, scores: Scores) -> Iterator[str]:
    """Take the organisers' steps one after the other; yield the name of each once it is done."""
    assert case.truth.labels is not None
    fixed, moving = case.truth.labels
    disp = np.array([zoom(c, 2, order=2) for c in case.half.astype(np.float32)])
    yield "up-sample"
    identity = np.meshgrid(*(np.arange(size) for size in fixed.shape), indexing="ij")
    warped = map_coordinates(moving, identity + disp, order=0)
    yield "warp labels"

    def masks() -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        for label in case.task.labels:
            if (fixed == label).sum() and (moving == label).sum():
                yield label, fixed == label, warped == label

    scores["dsc"] = {n: official.compute_dice_coefficient(*pair) for n, *pair in masks()}
    yield "Dice"
    scores["hd95"] = {n: _reference_hd95(*pair) for n, *pair in masks()}
    yield "HD95"
    scores["sdlogj"] = {0: _reference_sdlogj(disp)}
    yield "SDlogJ"


def _reference_hd95(fixed: np.ndarray, warped: np.ndarray) -> float:
    if not warped.any():
        return math.inf  # the package says so with NumPy 1; with NumPy 2 it fails
    distances = official.compute_surface_distances(fixed, warped, np.ones(3))
    return float(official.compute_robust_hausdorff(distances, 95.0))


def _reference_sdlogj(disp: FullField) -> float:
    along = [np.reshape([-0.5, 0, 0.5], shape) for shape in ((3, 1, 1), (1, 3, 1), (1, 1, 3))]
    gradients = [[correlate(c, k, mode="constant", cval=0.0) for c in disp] for k in along]
    jacobian = np.array(gradients) + np.eye(3).reshape(3, 3, 1, 1, 1)
    (a, b, c), (d, e, f), (g, h, i) = jacobian[:, :, 2:-2, 2:-2, 2:-2]
    det = a * (e * i - f * h) - d * (b * i - c * h) + g * (b * f - c * e)
    return float(np.log((det + 3).clip(1e-9, 1e9)).std())


def ours(case: Case, scores: Scores) -> Iterator[str]:
    """Score as ``evaluate.py`` does, and again step by step; last what only ours computes."""
    found = score_field(case.name, upsample(case.half), case.truth, case.task)
    scores |= {"dsc": found.dsc, "hd95": found.hd95_voxels, "sdlogj": {0: found.change.sdlogj}}
    yield AT_ONCE
    assert case.truth.labels is not None
    fixed, moving = case.truth.labels
    disp = upsample(case.half)
    yield "up-sample"
    warped = warp_labels(moving, disp)
    yield "warp labels"
    common = set(np.unique(fixed)) & set(np.unique(moving))
    labels = [label for label in case.task.labels if label in common]
    dice(fixed, warped, labels)
    yield "Dice"
    _label_distances(fixed, warped, labels, case.task.spacing_mm)
    yield "HD95"
    volume_change(disp, tetrahedra=False)
    yield "SDlogJ"
    folded_volume(disp)
    yield "folded volume"
    outside_fraction(disp, case.task.shape)
    yield "outside the grid"


def keep_best(steps: Iterator[str], best: dict[str, float]) -> None:
    """Note the seconds of each step in ``best``, where they are fewer."""
    begin = time.perf_counter()
    for step in steps:
        best[step] = min(time.perf_counter() - begin, best.get(step, math.inf))
        begin = time.perf_counter()


def grown_mib(side: Callable[[Case, Scores], Iterator[str]], case: Case) -> float:
    """Return the memory that a side needs on top of its inputs, if the process is fresh."""
    status = Path("/proc/self/status")
    held = int(status.read_text(encoding="utf-8").split("VmRSS:")[1].split()[0])
    list(side(case, {}))
    return (int(status.read_text(encoding="utf-8").split("VmHWM:")[1].split()[0]) - held) / 2**10


def print_times(theirs: Mapping[str, float], own: Mapping[str, float]) -> None:
    """Print the seconds of each step, and their sums."""
    total = sum(theirs.values())
    rows = [(step, seconds, own[step]) for step, seconds in theirs.items()]
    rows += [("the same work", total, sum(own[s] for s in theirs)), (AT_ONCE, total, own[AT_ONCE])]
    print(f"{'part':34}{'reference s':>12}{'ours s':>9}{'ratio':>8}")
    for name, reference_s, ours_s in rows:
        print(f"{name:34}{reference_s:12.3f}{ours_s:9.3f}{reference_s / ours_s:8.1f}")
    print("more:", *(f"{step} {own[step]:.3f} s" for step in own if step not in (*theirs, AT_ONCE)))
    print("at no cost: HD95 in mm, ASSD, folds, range and SD of log(determinant)")


def differing(theirs: Scores, own: Scores) -> list[str]:
    """Print the largest difference of each metric; return which are too large."""
    messages = []
    for metric, tolerance in TOLERANCES.items():
        expected = np.array(list(theirs[metric].values()))
        found = np.array([own[metric][label] for label in theirs[metric]])
        gap = np.abs(np.nan_to_num(expected) - np.nan_to_num(found, nan=-1.0)).max()  # inf is inf
        print(f"{metric}: mean {expected.mean():.6f}, largest difference {gap:.1e}")
        if gap > tolerance:
            messages.append(f"{metric} differs by {gap:.1e}, more than {tolerance}")
    return messages


def main() -> None:
    """Print the table of times, the memory, and the differences of the scores."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeat", type=int, default=3, help="runs, of which the best counts")
    parser.add_argument("--threads", type=int, default=2, help="threads of ours")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    case = load_case()
    expected, found, theirs, own = Scores(), Scores(), dict[str, float](), dict[str, float]()
    for _ in range(options.repeat):
        keep_best(reference(case, expected), theirs)
    configure_malloc()  # as evaluate.py does
    for _ in range(options.repeat):
        keep_best(ours(case, found), own)
    print(f"{case.name} {case.task.shape}, best of {options.repeat}, {options.threads} threads")
    print_times(theirs, own)
    spawn, start = multiprocessing.get_context("spawn"), (torch.set_num_threads, (options.threads,))
    with ProcessPoolExecutor(1, spawn, *start, max_tasks_per_child=1) as pool:
        peaks = list(pool.map(grown_mib, (reference, ours), (case, case)))
    print("peak MiB on top of the inputs: reference {:.0f}, ours {:.0f}".format(*peaks))
    sys.exit("; ".join(differing(expected, found)) or None)


if __name__ == "__main__":
    main()
