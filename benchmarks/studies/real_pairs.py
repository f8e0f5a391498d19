r"""Score settings of ``model=convex`` on every ordered real pair of a task below L2REG_DATA.

python -m benchmarks.studies.real_pairs abdomen OUT
python -m benchmarks.studies.real_pairs oasis OUT --settings "" "refine.elastic=0.002"
python -m benchmarks.studies.real_pairs abdomen OUT --cases scans --peer-python PYTHON

Settings are options of ``predict.py``, "" what is set. Cases are the real scans in all orders
(``scans``), the same with the moving scan turned, cropped or biased, and phantoms. All are
registered in this process; a search is made once for all settings that share it. Prints Dice (of
the lung: TRE in mm), SDlogJ and folds in percent of every pair, as submitted, by the rules of 2021;
then means, the largest loss and gain to the first setting, the seconds of a refinement, and which
settings are the best on average when each pair is left out in turn. ``--peer-python`` is a Python
whose environment has picsl_greedy and what l2reg needs: greedy stands beside the settings. Say so
where scores are reported on pairs that settings were chosen on.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.studies.pair_cases import CASES, composed, pairs
from l2reg.config.build import build
from l2reg.data.pairs import Pair
from l2reg.data.task import Task
from l2reg.evaluation.score_field import load_ground_truth, score_field
from l2reg.inference.method import Method
from l2reg.inference.predictor import Predictor
from l2reg.runtime import configure_malloc
from l2reg.shapes import Field
from l2reg.submission.fields import FullField, file_name, read_field, to_submission
from l2reg.submission.half_resolution import upsample
from l2reg.submission.rules import RULES


@dataclass(frozen=True)
class Score:
    """Scores of one field: Dice or TRE in mm; folds in percent, seconds of its refinement."""

    accuracy: float
    sdlogj: float
    folds: float
    seconds: float

    def __str__(self) -> str:
        return f"{self.accuracy:.4f} / {self.sdlogj:.3f} / {self.folds:.3f}"


class Settings:
    """Settings, and the fields they give; a search is remembered until the next pair."""

    def __init__(self, task: str, options: str) -> None:
        config = composed(task, options)
        self.name = options or "as set"
        self.model = repr(config["model"])
        self.predictor = Predictor(
            Method(build(config["model"]), build(config["refine"])),
            build(config["data"], task=build(config["task"])).reader,
        )

    def register(self, pair: Pair, starts: dict[str, Field]) -> tuple[Field, float]:
        """Return the field of a pair, and the seconds that its refinement took.

        ``starts`` has the searches that were made of the pair.
        """
        batches = self.predictor.read(pair)
        if self.model not in starts:
            starts[self.model] = self.predictor.predict(batches[0]).disp
        refinement = self.predictor.method.refinement
        begin = time.perf_counter()
        field = starts[self.model]
        if refinement is not None:
            field = refinement(batches[-1], field)
        return field, time.perf_counter() - begin


def greedy(python: str, pair: Pair, folder: Path, task: Task) -> FullField:
    """Return greedy's field, which is computed if its file is not there yet."""
    path = folder / file_name(pair.name)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        command = [python, "-m", "benchmarks.methods.register_peers", "greedy"]
        command += [str(pair.fixed.image), str(pair.moving.image), str(path), "--threads", "1"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return upsample(read_field(path.read_bytes(), str(path), task.shape))


def score(disp: FullField, pair: Pair, task: Task, seconds: float) -> Score:
    """Return the scores of a field of the full grid."""
    truth = load_ground_truth(pair, task, RULES["2021"])
    values = score_field(pair.name, disp, truth, task, slow_metrics=False).values()
    accuracy = values["dsc"] if "dsc" in values else values["tre_mm"]
    return Score(accuracy, values["sdlogj"], 100 * values["folds"], seconds)


def summary(found: Mapping[str, Mapping[str, Score]], sign: int) -> Iterator[str]:
    """Return lines of the means, the changes against the first setting, and who would be chosen.

    ``sign`` is 1 where a larger accuracy is better, -1 where a smaller one is.
    """
    names = list(next(iter(found.values())))
    values = np.array([[row[name].accuracy for name in names] for row in found.values()])
    change = values - values[:, :1]
    for n, name in enumerate(names):
        column = [row[name] for row in found.values()]
        mean = Score(*(float(np.mean([getattr(one, key) for one in column]))
                       for key in ("accuracy", "sdlogj", "folds", "seconds")))  # fmt: skip
        largest = max(one.sdlogj for one in column)
        yield (
            f"{name}: mean {mean}, largest SDlogJ {largest:.3f}, better in "
            f"{(sign * change[:, n] > 0).sum()} of {len(values)}, change {change[:, n].min():+.4f} "
            f"to {change[:, n].max():+.4f}, {mean.seconds:.1f} s"
        )
    ours = sign * values[:, [name != "greedy" for name in names]]
    without = {names[np.delete(ours, n, axis=0).mean(axis=0).argmax()] for n in range(len(ours))}
    yield f"best on average whichever pair is left out: {'; '.join(sorted(without))}"


def main() -> None:
    """Print a row for each pair, then the summary."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("task", choices=CASES)
    parser.add_argument("out", type=Path, help="folder for what is made: phantoms, disturbed scans")
    parser.add_argument("--settings", nargs="+", default=[""])
    parser.add_argument("--cases", nargs="+", choices=CASES["abdomen"], help="by default all")
    parser.add_argument("--pairs", nargs="+", help="such as 'MR 1 <- 2'; all by default")
    parser.add_argument("--peer-python")
    options = parser.parse_args()
    if not os.environ.get("L2REG_DATA"):
        sys.exit("this needs real pairs: name their folder in the environment's L2REG_DATA")
    configure_malloc()
    tried = [Settings(options.task, each) for each in options.settings]
    root, task = Path(os.environ["L2REG_DATA"]), tried[0].predictor.reader.task
    titles = [each.name for each in tried] + (["greedy"] if options.peer_python else [])
    print(f"| pair | {' | '.join(titles)} |\n|{'---|' * (1 + len(titles))}", flush=True)
    found: dict[str, dict[str, Score]] = {}
    cases = options.cases or CASES[options.task]
    if unknown := sorted(set(cases) - set(CASES[options.task])):
        sys.exit(f"the {options.task} has no cases {', '.join(unknown)}")
    for name, pair in pairs(options.task, cases, root, options.out):
        if options.pairs and name not in options.pairs:
            continue
        starts: dict[str, Field] = {}
        row = found[name] = {}
        for each in tried:
            field, seconds = each.register(pair, starts)
            row[each.name] = score(
                upsample(to_submission(field, task.shape)[0]), pair, task, seconds
            )
        if options.peer_python:
            disp = greedy(options.peer_python, pair, options.out / "greedy" / name, task)
            row["greedy"] = score(disp, pair, task, 0.0)
        print(f"| {name} | {' | '.join(map(str, row.values()))} |", flush=True)
    print("\n" + "\n".join(summary(found, -1 if options.task == "lung" else 1)))


if __name__ == "__main__":
    main()
