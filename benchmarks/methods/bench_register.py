r"""Register the real pairs below L2REG_DATA with l2reg and with what pip installs, and compare.

pip install -e .[bench]
python -m benchmarks.methods.bench_register --cases lung --methods convex greedy
python -m benchmarks.methods.bench_register --methods convex --repeat 3 \
    --ours "model=convex refine=none"

Every run is a command of its own, from reading the scans to the written submission; methods take
turns. All see the same folder, which holds the images and masks alone: no method can read labels
or landmarks. What they wrote is scored alike, by the rules of 2021. Seconds are those of the whole
command, memory is what its process peaked at (VmHWM of Linux). Peers are run by the module
``register_peers``, if need be with the Python of another environment (``--peer-python``) that has
them and l2reg's dependencies. Exit status 1 if a run failed.
"""

import argparse
import contextlib
import itertools
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from benchmarks.methods.register_peers import PEERS
from benchmarks.methods.register_results import Run, save, table
from l2reg.config.build import build
from l2reg.config.presets import load_preset
from l2reg.data.dataset import Dataset
from l2reg.data.pairs import Pair
from l2reg.data.task import Task
from l2reg.evaluation.aggregate import hardest
from l2reg.evaluation.pair_scores import PairScores
from l2reg.evaluation.score_field import GroundTruth, load_ground_truth, score_field, zero_field
from l2reg.runtime import configure_malloc
from l2reg.submission.fields import file_name, read_field
from l2reg.submission.half_resolution import upsample
from l2reg.submission.rules import RULES

ROOT = Path(__file__).parents[2]
OURS = {"zero": "model=zero", "convex": "model=convex"}
CASES: dict[str, tuple[str, str | None]] = {  # task and list of pairs, the validation list if None
    "lung": ("lung", None),
    "oasis": ("oasis", None),
    "abdomen": ("abdomen", "task_01/MRIs/pairs_val.csv"),
    "mrct": ("abdomen", None),
}
THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)


@dataclass(frozen=True)
class Place:
    """One pair, and the folder that all methods see of it.

    Attributes:
        case: Key of ``CASES``.
        pair: As it lies below ``data``: without labels and landmarks.
        task: Its task.
        truth: To score with.
        initial: Scores of the zero field.
        data: What L2REG_DATA is for the methods.
        list_path: List of this pair alone, below ``data``.
        out: For what the methods write.
    """

    case: str
    pair: Pair
    task: Task
    truth: GroundTruth
    initial: PairScores
    data: Path
    list_path: Path
    out: Path


@dataclass(frozen=True)
class Method:
    """One way to register; ``overrides`` are options of predict.py, ``None`` of a peer."""

    name: str
    overrides: str | None

    def command(self, place: Place, options: argparse.Namespace) -> tuple[list[str], Path]:
        """Return what to run, and the field that it writes."""
        out, field_name = place.out / self.slug, file_name(place.pair.name)
        if self.overrides is not None:
            command = [sys.executable, str(ROOT / "predict.py"), *self.overrides.split()]
            command += [f"task={place.task.name}", "split=val", f"data.pairs={place.list_path}"]
            command += ["data.cache=null", f"out={out}", "overwrite=true"]
            return command, out / "submission" / place.task.folder / field_name
        scans = (place.pair.fixed, place.pair.moving)
        masks = [str(scan.mask) for scan in scans if scan.mask is not None]
        command = [options.peer_python, "-m", "benchmarks.methods.register_peers", self.name]
        command += [*(str(scan.image) for scan in scans), str(out / field_name)]
        command += ["--threads", str(options.threads)]
        return command + (["--masks", *masks] if len(masks) == 2 else []), out / field_name

    @property
    def slug(self) -> str:
        """The name, fit for a file."""
        return re.sub(r"[^\w.=-]+", "_", self.name)


def places(case: str, root: Path, out: Path) -> Iterator[Place]:
    """Lay out the folder of every pair of a case."""
    name, own_list = CASES[case]
    node, task = load_preset("data", "default"), build(load_preset("task", name))
    data: Dataset = build(node, task=task, root=root, pairs=own_list and root / own_list)
    release = data.release
    for pair in data.split_pairs("val"):
        folder = out / case / pair.name
        seen = folder / "data"
        shutil.rmtree(seen, ignore_errors=True)
        for path in {s.image for s in (pair.fixed, pair.moving)} | _masks(pair):
            link = seen / path.relative_to(release.folder.parent)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())
        list_path = seen / (own_list or f"{release.folder.name}/pairs_val.csv")
        ids = f"{pair.fixed.id}, {pair.moving.id}"
        list_path.write_text(f"fixed, moving\n{ids}\n", encoding="utf-8")
        shown: Dataset = build(node, task=task, root=seen, pairs=list_path)
        truth = load_ground_truth(pair, release.task, RULES["2021"])
        initial = score_field(pair.name, zero_field(release.task), truth, release.task)
        (bare,) = shown.split_pairs("val")
        yield Place(case, bare, release.task, truth, initial, seen, list_path, folder)


def _masks(pair: Pair) -> set[Path]:
    return {scan.mask for scan in (pair.fixed, pair.moving) if scan.mask is not None}


def run_once(method: Method, place: Place, turn: int, options: argparse.Namespace) -> Run:
    """Run one method on one pair, and score what it wrote."""
    command, field = method.command(place, options)
    field.unlink(missing_ok=True)
    environment = os.environ | {"L2REG_DATA": str(place.data), "PYTHONPATH": str(ROOT)}
    environment |= dict.fromkeys(THREADS, str(options.threads))
    peak = 0.0
    with (place.out / f"{method.slug}.log").open("w", encoding="utf-8") as log:
        begin = time.perf_counter()
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        while process.poll() is None:
            peak = max(peak, peak_gb(process.pid))
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
        seconds = time.perf_counter() - begin
        print("exit status", process.returncode, file=log)
    scores = compared(place, field) if process.returncode == 0 else {}
    return Run(place.case, place.pair.name, method.name, turn, seconds, peak, scores)


def peak_gb(pid: int) -> float:
    """Return the memory that a process has peaked at so far; 0 once it ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    peak = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(peak.group(1)) * 1024 / 1e9 if peak else 0.0


def compared(place: Place, field: Path) -> dict[str, float]:
    """Return the scores of a submitted field, by the names of ``register_results.HEADINGS``."""
    half = read_field(field.read_bytes(), str(field), place.task.shape)
    found = score_field(place.pair.name, upsample(half), place.truth, place.task)
    values = {"sdlogj": found.change.sdlogj, "folds_percent": 100 * found.change.folds}
    if found.tre_mm:
        before, after = np.array(place.initial.tre_mm), np.array(found.tre_mm)
        values["tre_mm"] = float(after.mean())
        values["tre30_before"] = float(after[hardest(-before)].mean())
        values["tre30_after"] = float(after[hardest(-after)].mean())
    if found.dsc:
        by_label = np.array(list(found.dsc.values()))
        values["dice"] = float(np.nanmean(by_label))
        values["dice30"] = float(by_label[hardest(by_label)].mean())
        values["hd95_voxels"] = float(np.nanmean(list(found.hd95_voxels.values())))
    return values


def parsed() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    names = [*OURS, *PEERS]
    parser.add_argument("--methods", nargs="*", choices=names, default=names)
    more = "options of predict.py, such as 'ckpt=RUN refine=gauss_newton'; may be repeated"
    parser.add_argument("--ours", action="append", default=[], metavar="OPTIONS", help=more)
    parser.add_argument("--repeat", type=int, default=1, help="turns of every method")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of every command")
    parser.add_argument("--peer-python", default=sys.executable, help="runs the other packages")
    parser.add_argument("--out", type=Path, default=Path("out/bench_register"))
    return parser.parse_args()


def main() -> None:
    """Run everything in turns, and print a table per case."""
    options = parsed()
    if not os.environ.get("L2REG_DATA"):
        sys.exit("this needs real pairs: name their folder in the environment's L2REG_DATA")
    configure_malloc()
    torch.set_num_threads(options.threads)
    root, out = Path(os.environ["L2REG_DATA"]).absolute(), options.out.absolute()
    methods = [Method(name, OURS.get(name)) for name in options.methods]
    methods += [Method(overrides, overrides) for overrides in options.ours]
    ready = [place for case in options.cases for place in places(case, root, out)]
    header = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {options.threads} threads",
        "torch": torch.__version__,
    }
    runs: list[Run] = []
    total = options.repeat * len(ready) * len(methods)
    for turn, place, method in itertools.product(range(options.repeat), ready, methods):
        run = run_once(method, place, turn, options)
        runs.append(run)
        save(runs, header, out)
        shown = ", ".join(f"{name} {value:.4g}" for name, value in run.values().items())
        what = shown if run.scores else f"failed, see {place.out / method.slug}.log"
        print(f"[{len(runs)}/{total}] {run.case} {run.pair} {run.method}: {what}", flush=True)
    for case in options.cases:
        print(f"\n{case}: {header['date']}, {header['machine']}, {options.repeat} turns")
        print(table([run for run in runs if run.case == case], [m.name for m in methods]))
    sys.exit("some runs failed" if any(not run.scores for run in runs) else None)


if __name__ == "__main__":
    main()
