r"""Find settings of ``model=convex`` and its refinement on pairs that can be scored: your own.

python -m benchmarks.studies.tune_convex model=convex task=lung +minutes=60
python -m benchmarks.studies.tune_convex model=convex task=oasis data.pairs=my.csv out=tuned \
    +minutes=60

Takes the options of ``predict.py``. The first trial is what is set, every further one changes about
half of what ``CHOICES`` names, drawn at random from the seed; the rest keeps what is set. A trial's
score is the geometric mean, over the metrics, of its rank among the trials (of the pairs' means).
Prints the trials, best first, whenever one leads, and writes all of them to ``trials.csv``.
Do not report scores on the pairs that settings were chosen on.
"""

import copy
import csv
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from scipy.stats import gmean, rankdata

from l2reg.config.build import build
from l2reg.data.check import check_ground_truth, check_pairs
from l2reg.data.dataset import Dataset
from l2reg.data.pairs import Pair
from l2reg.data.task import Task
from l2reg.evaluation.aggregate import hardest
from l2reg.evaluation.pair_scores import PairScores
from l2reg.evaluation.score_field import load_ground_truth, score_field
from l2reg.geometry.resize import resize_field
from l2reg.inference.method import Method
from l2reg.inference.predictor import Predictor
from l2reg.problems import exit_on_input_error, raise_if_any
from l2reg.runtime import configure_malloc, select_device
from l2reg.submission.rules import RULES

CONFIGS = str(Path(__file__).parents[2] / "configs")
FEATURES: Mapping[str, Mapping[str, Any]] = {
    "mind": {"_target_": "l2reg.features.mind.Mind", "radius": 1, "dilation": 1},
    "wide mind": {"_target_": "l2reg.features.mind.Mind", "radius": 2, "dilation": 2},
    "contrast": {
        "_target_": "l2reg.features.local_contrast.LocalContrast",
        "radius": 2,
        "flat": 1e-4,
    },
    "wide contrast": {
        "_target_": "l2reg.features.local_contrast.LocalContrast",
        "radius": 3,
        "flat": 1e-4,
    },
    "matched intensities": {
        "_target_": "l2reg.features.histogram_matching.HistogramMatching",
        "quantiles": 256,
        "background": 0.1,
        "samples": 100_000,
    },
}
CHOICES: Mapping[str, Sequence[Any]] = {
    "model.levels": (
        ((3, 4),),
        ((4, 4), (2, 2)),
        ((4, 4), (3, 2), (2, 2)),
        ((5, 3), (3, 2), (2, 2)),
    ),
    "model.smoothing_passes": (1, 2, 3),
    "refine.elastic": (0.003, 0.01, 0.03, 0.1, 0.3),
    "refine.viscous": (0.01, 0.03, 0.1, 0.3, 1.0),
    "refine.smoothing_passes": (0, 1, 2),
    "refine.features": tuple(FEATURES.values()),
}
CHANGED = 0.5  # fraction of them that a trial changes


@dataclass(frozen=True)
class Trial:
    """Settings that were changed, and the means over the pairs; less is better."""

    changed: Mapping[str, Any]
    losses: Mapping[str, float]


def scores(trials: Sequence[Trial]) -> np.ndarray:
    """Return the geometric mean of every trial's ranks, 1 being the best."""
    columns = [[trial.losses[name] for trial in trials] for name in trials[0].losses]
    mean: np.ndarray = gmean([rankdata(column) for column in columns], axis=0)
    return mean


def draw(rng: np.random.Generator) -> dict[str, Any]:
    """Return settings to change."""
    names = [name for name in CHOICES if rng.random() < CHANGED]
    return {name: CHOICES[name][int(rng.integers(len(CHOICES[name])))] for name in names}


def changed(config: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``config`` with some of its values replaced, by dotted key."""
    new: dict[str, Any] = copy.deepcopy(dict(config))
    for key, value in settings.items():
        *groups, name = key.split(".")
        node = new
        for group in groups:
            node = node[group]
        node[name] = value
    return new


def losses(pair_scores: PairScores) -> dict[str, float]:
    """Return what is to be small: 1 - Dice and HD95 or TRE, all also of the worst 30 %; SDlogJ."""
    values = pair_scores.values()
    found = {"sdlogj": values["sdlogj"], "folds": values["folds"]}
    if "dsc" in values:
        dsc = np.array([value for value in pair_scores.dsc.values() if not np.isnan(value)])
        found["1-dice"] = 1 - float(dsc.mean())
        found["1-dice30"] = 1 - float(dsc[hardest(dsc)].mean())
        found["hd95"] = min(values["hd95_voxels"], 100.0)  # inf where a label vanished
    if "tre_mm" in values:
        tre = np.array(pair_scores.tre_mm)
        found["tre"] = float(tre.mean())
        found["tre30"] = float(tre[hardest(-tre)].mean())
    return found


def run(
    config: Mapping[str, Any], pairs: Sequence[Pair], data: Dataset, device: torch.device
) -> dict[str, float]:
    """Register all pairs with the settings, and return the means of their losses."""
    model = build(config["model"]).to(device)
    method = Method(model, build(config["refine"]), device, config["precision"])
    predictor = Predictor(method, data.reader)
    task: Task = data.release.task
    found = []
    for pair in pairs:
        disp = resize_field(predictor.register(pair).cpu(), task.shape)[0].numpy()
        truth = load_ground_truth(pair, task, RULES["2021"])
        found.append(losses(score_field(pair.name, disp, truth, task)))
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}


def checked(config: Mapping[str, Any]) -> tuple[Dataset, list[Pair]]:
    """Return the data and its pairs, or end with what is wrong with them."""
    with exit_on_input_error():
        data: Dataset = build(config["data"], task=build(config["task"]))
        pairs = data.split_pairs(config["split"])
        task = data.release.task
        raise_if_any(check_pairs(pairs, task, data.volume_cache, prealign=data.prealign))
        raise_if_any(check_ground_truth(pairs, task))
    return data, pairs


def table(trials: Sequence[Trial]) -> str:
    """Return the trials, best first."""
    names = list(trials[0].losses)
    rows = [["rank", *names, "changed"]]
    for score, trial in sorted(zip(scores(trials), trials, strict=True), key=lambda row: row[0]):
        rows.append(
            [f"{score:.2f}", *(f"{trial.losses[name]:.4g}" for name in names), said(trial.changed)]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def said(settings: Mapping[str, Any]) -> str:
    """Return settings as options of ``predict.py``."""
    plain = {
        key: "{" + ",".join(f"{k}:{v}" for k, v in value.items()) + "}"
        if isinstance(value, Mapping)
        else value
        for key, value in settings.items()
    }
    return " ".join(f"{key}={value}" for key, value in plain.items()) or "as set"


def save(trials: Sequence[Trial], out: Path) -> None:
    """Write all trials in the order they were made."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "trials.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["rank", *trials[0].losses, "changed"])
        for score, trial in zip(scores(trials), trials, strict=True):
            writer.writerow([f"{score:.4f}", *trial.losses.values(), said(trial.changed)])


@hydra.main(version_base="1.3", config_path=CONFIGS, config_name="predict")
def main(cfg: DictConfig) -> None:
    """Try settings until the time is up."""
    configure_malloc()
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    end = time.monotonic() + 60 * float(config.get("minutes", 60))
    out = Path(config.get("out") or "tuned")
    rng = np.random.default_rng(config["seed"])
    data, pairs = checked(config)
    device = select_device(config["device"])
    trials: list[Trial] = []
    settings: Mapping[str, Any] = {}
    while not trials or time.monotonic() < end:
        begin = time.monotonic()
        trials.append(Trial(settings, run(changed(config, settings), pairs, data, device)))
        seconds = time.monotonic() - begin
        save(trials, out)
        left = max(0.0, end - time.monotonic()) / 60
        print(f"trial {len(trials)}, {seconds:.0f} s, {left:.0f} min left: {said(settings)}")
        if int(np.argmin(scores(trials))) == len(trials) - 1:
            print(table(trials))
        settings = draw(rng)
    print(table(trials))


if __name__ == "__main__":
    main()
