"""Train 2,000 steps and predict 300 times, and see whether memory, open files or threads grow.

    python -m benchmarks.faults.growth --out OUT

Validation, pictures and checkpoints every 100 steps; a prediction writes fields, zip, scores and
extra outputs. The first tenth is not judged: caches fill, and libraries load what they need.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.faults.kinds import tiny_config, write_tiny_data
from l2reg.inference.predict_split import predict_split, prepare_prediction
from l2reg.runtime import configure_malloc
from l2reg.training.scalars import Scalars
from l2reg.training.setup import prepare_training
from l2reg.training.trainer import Trainer

STEPS, PREDICTIONS = 2000, 300
MAX_GROWTH = 8.0  # MB from the first tenth to the end; a volume kept by every step would be 13

Sample = tuple[int, float, int, int]  # count, memory in MB, open files, threads


def sample(count: int) -> Sample:
    """Return the resident memory in MB, the open files and the threads of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    megabytes = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    n_threads = len(list(Path("/proc/self/task").iterdir()))
    return count, megabytes, len(list(Path("/proc/self/fd").iterdir())), n_threads


class Watch:
    """Hook that takes a sample every so many steps."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.samples: list[Sample] = []

    def __call__(self, trainer: Trainer, scalars: Scalars) -> None:
        """Take a sample if this step is due."""
        del scalars
        if trainer.step % self.every == 0:
            self.samples.append(sample(trainer.step))

    def close(self) -> None:
        """Do nothing: no resource is held."""


def train(folder: Path) -> list[Sample]:
    """Return samples of a training."""
    intervals = [f"trainer.{key}_every=100" for key in ("validate", "picture", "checkpoint")]
    options = [f"data.root={folder / 'root'}", f"trainer.max_steps={STEPS}", *intervals]
    trainer = prepare_training(tiny_config(*options))
    watch = Watch(STEPS // 20)
    trainer.hooks = [*trainer.hooks, watch]
    trainer.run()
    return watch.samples


def predict(folder: Path) -> list[Sample]:
    """Return samples of predictions with the trained network."""
    options = ["ckpt=run", f"data.root={folder / 'root'}", "out=out", "data.cache=null"]
    keys = ["ckpt", "data.root", "out", "data.cache"]
    job = prepare_prediction(tiny_config(*options, script="predict"), keys)
    samples = []
    for count in range(1, PREDICTIONS + 1):
        predict_split(job.predictor, job.pairs, job.out, ["warped", "transform", "grid"], job.rules)
        if count % (PREDICTIONS // 20) == 0:
            samples.append(sample(count))
    return samples


def judge(name: str, samples: list[Sample]) -> bool:
    """Print samples, and return whether anything grew after the first tenth."""
    print(f"| {name} | memory, MB | open files | threads |\n|---|---|---|---|")
    for count, megabytes, n_files, n_threads in samples:
        print(f"| {count} | {megabytes:.0f} | {n_files} | {n_threads} |")
    first, last = samples[len(samples) // 10 - 1], samples[-1]
    return last[1] - first[1] > MAX_GROWTH or last[2] > first[2] or last[3] > first[3]


def main() -> None:
    """Measure both, print tables, and exit with 1 if anything grew."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    out = options.out.resolve()
    torch.set_num_threads(1)
    configure_malloc()
    jobs: dict[str, Callable[[Path], list[Sample]]] = {"steps": train, "predictions": predict}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.chdir(folder)
        write_tiny_data(folder / "root")
        found = {name: job(folder) for name, job in jobs.items()}
    (out / "growth.json").write_text(json.dumps(found), encoding="utf-8")
    grew = [name for name, samples in found.items() if judge(name, samples)]
    print("nothing grew" if not grew else f"grew: {', '.join(grew)}")
    sys.exit(bool(grew))


if __name__ == "__main__":
    main()
