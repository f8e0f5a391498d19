"""Compare networks on real scans: trained equally long on images alone, scored, refined, scored.

python -m benchmarks.methods.bench_real --task oasis --steps 80 --keep runs/real_oasis
python -m benchmarks.methods.bench_real --task lung --models zero convex pyramid --steps 80

Scans are those below L2REG_DATA. Networks see neither labels nor points, but on the lung they see
the images of the scored pairs: with one patient there are no others. Every row is a process of its
own; what has nothing to train stands beside them. Fields are scored as submitted, by the rules of
2021. Further arguments are options of train.py, for all networks alike. What --keep keeps can be
scored again: python predict.py ckpt=runs/real_oasis/unet/last.pt task=oasis refine=gauss_newton
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from benchmarks.methods.networks import NETWORKS, composed, in_own_process, table, trained
from l2reg.config.build import build
from l2reg.data.dataset import Dataset
from l2reg.evaluation.score_field import load_ground_truth, score_field
from l2reg.inference.method import Method
from l2reg.inference.predictor import Predictor
from l2reg.runtime import configure_malloc, select_device
from l2reg.submission.fields import to_submission
from l2reg.submission.half_resolution import upsample
from l2reg.submission.rules import RULES

IMAGES_ALONE = ["loss.weights.dice=0", "loss.weights.keypoints=0"]
SEEN = {"lung": ["data.sampling.val_images=true"], "oasis": []}
TITLES = {"tre_mm": "TRE mm", "dsc": "Dice", "sdlogj": "SDlogJ", "folds": "folds %"}
DIGITS = {"tre_mm": 3, "dsc": 4, "sdlogj": 4, "folds": 4}
Scores = dict[str, float]


def main() -> None:
    """Train and score every model, and print its row as soon as it is there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--models", nargs="+", default=["zero", "convex", *NETWORKS])
    parser.add_argument("--task", choices=SEEN, default="lung")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--keep", type=Path, help="folder for the runs; else they are deleted")
    options, overrides = parser.parse_known_args()
    if not os.environ.get("L2REG_DATA"):
        sys.exit("this needs real pairs: name their folder in the environment's L2REG_DATA")
    overrides = [f"task={options.task}", "refine=gauss_newton", *IMAGES_ALONE, *SEEN[options.task],
                 f"trainer.max_steps={options.steps}", *overrides]  # fmt: skip
    score = "tre_mm" if options.task == "lung" else "dsc"
    rows = []
    for model in options.models:
        rows.append(row(model, score, in_own_process(measured, model, options.keep, overrides)))
        print(rows[-1], flush=True)
    seen = "; networks saw the images of the scored pair" if SEEN[options.task] else ""
    gpu = f"{torch.cuda.get_device_name()}, " if torch.cuda.is_available() else ""
    print(f"\n{options.task}: {gpu}{torch.get_num_threads()} threads{seen}")
    titles = [TITLES[name] for name in (score, "sdlogj", "folds")]
    refined = [f"refined: {title}" for title in titles]
    print(table(["model", "steps", "s/step", *titles, *refined], rows))


def measured(model: str, keep: Path | None, overrides: list[str]) -> Scores:
    """Train one network if it can be, and return its scores and what it cost."""
    configure_malloc()
    with tempfile.TemporaryDirectory() as folder:
        config = composed(model, (keep or Path(folder)) / model, overrides)
        done = trained(config)
    data: Dataset = build(config["data"], task=build(config["task"]))
    refinement = build(config["refine"])
    device = select_device(config["device"])
    taken = {"steps": config["trainer"]["max_steps"], "step_s": done.step_s} if done.step_s else {}
    for prefix, better in {"": None, "refined_": refinement}.items():
        predictor = Predictor(Method(done.model, better, device), data.reader)
        taken |= {prefix + name: value for name, value in scored(predictor, data).items()}
    return taken


def scored(predictor: Predictor, data: Dataset) -> Scores:
    """Return means over the validation pairs."""
    task, rules = data.release.task, RULES["2021"]
    found = []
    for pair in data.split_pairs("val"):
        (half,) = to_submission(predictor.register(pair), task.shape)
        truth = load_ground_truth(pair, task, rules)
        scores = score_field(pair.name, upsample(half), truth, task, slow_metrics=False).values()
        found.append({**scores, "folds": 100 * scores["folds"]})
    return {name: fmean(scores[name] for scores in found) for name in found[0]}


def row(model: str, score: str, values: Scores) -> str:
    """Return a line of the table."""
    costs = [f"{values['steps']:.0f}", f"{values['step_s']:.2f}"] if "steps" in values else ["", ""]
    names: list[Any] = [score, "sdlogj", "folds"]
    cells = [f"{values[p + name]:.{DIGITS[name]}f}" for p in ("", "refined_") for name in names]
    return "| " + " | ".join([model, *costs, *cells]) + " |"


if __name__ == "__main__":
    main()
