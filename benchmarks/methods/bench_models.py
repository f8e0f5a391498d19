r"""Compare networks: trained equally long on the same phantoms, scored on others.

python -m benchmarks.methods.bench_models --models unet pyramid --flavour lung --steps 200 \
    --seeds 0 1 2

Each run is a process of its own, so that its peak memory is its own. Seeds change the initial
weights and the order of the training pairs, not the data. Further arguments are options of
train.py, for all networks alike: trainer.batch_size=2 loss=lncc.
"""

import argparse
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.methods.networks import NETWORKS, composed, in_own_process, table, trained
from l2reg.config.build import build
from l2reg.data.dataset import Dataset
from l2reg.inference.method import Method
from l2reg.inference.predictor import Predictor
from l2reg.runtime import configure_malloc, select_device
from l2reg.training.validation import Validation

SCORES = {"tre_mm": "TRE mm", "dsc": "Dice", "sdlogj": "SDlogJ"}
COSTS = {"step_s": "s/step", "pair_s": "s/pair", "parameters": "parameters", "gib": "peak GiB"}


def main() -> None:
    """Train and score every network with every seed, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=NETWORKS)
    parser.add_argument("--flavour", default="lung", help="lung, abdomen or oasis")
    parser.add_argument("--pairs", type=int, default=32, help="a quarter of them for scoring")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options, overrides = parser.parse_known_args()
    overrides += [f"task.flavour={options.flavour}", f"task.pairs={options.pairs}",
                  f"trainer.max_steps={options.steps}"]  # fmt: skip
    rows = {"zero": [in_own_process(measured, "zero", 0, overrides)]}
    for model in options.models:
        rows[model] = []
        for seed in options.seeds:
            print(f"{model}, seed {seed}", flush=True)
            rows[model].append(in_own_process(measured, model, seed, overrides))
            print(row(f"{model}, seed {seed}", rows[model][-1:]), flush=True)
    print(f"\n{options.flavour}: {options.pairs} pairs, {options.steps} steps, "
          f"{len(options.seeds)} seeds, {torch.get_num_threads()} threads")  # fmt: skip
    columns = [title for key, title in (SCORES | COSTS).items() if key in rows["zero"][0]]
    print(table(["model", *columns], [row(model, runs) for model, runs in rows.items()]))


def measured(model: str, seed: int, overrides: list[str]) -> dict[str, float]:
    """Train one network (``zero`` has nothing to train), and return its scores and costs."""
    configure_malloc()
    with tempfile.TemporaryDirectory() as folder:
        config = composed(model, Path(folder) / "run", [f"seed={seed}", *overrides])
        done = trained(config)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    data: Dataset = build(config["data"], task=build(config["task"]))
    device = select_device(config["device"])
    predictor = Predictor(Method(done.model, None, device), data.reader)
    pairs = data.split_pairs("val")
    scores, _ = Validation(predictor, pairs, done.objective).score()
    return {
        **{name.removeprefix("val/"): value for name, value in scores.items()},
        "step_s": done.step_s,
        "pair_s": statistics.median(seconds(predictor, pair) for pair in pairs),
        "parameters": sum(p.numel() for p in done.model.parameters()),
        "gib": peak / 2**20,
    }


def seconds(predictor: Predictor, pair: Any) -> float:
    """Return how long the network takes for a pair that is in memory."""
    batch = predictor.batch(pair)
    begin = time.perf_counter()
    predictor.predict(batch)
    return time.perf_counter() - begin


def row(model: str, runs: list[dict[str, float]]) -> str:
    """Return a line of the table: means over the seeds, and the scores' standard deviation."""
    cells = [model]
    for key in SCORES | COSTS:
        values = [run[key] for run in runs if key in run]
        if values:
            mean = statistics.mean(values)
            spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
            number = f"{mean:,.0f}" if key == "parameters" else f"{mean:.3f}"
            cells.append(number + (spread if key in SCORES else ""))
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
