"""What each part of ``model=convex`` and its refinement is worth: leave one out, add one, score.

python -m benchmarks.studies.ablate_convex model=convex task=lung
python -m benchmarks.studies.ablate_convex model=convex task=abdomen data.pairs=my.csv

Takes the options of ``predict.py``, and prints the means over the pairs of its split: of errors,
so that less is better in every column, and of the seconds that a pair took.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from benchmarks.studies.tune_convex import CONFIGS, FEATURES, changed, checked, run
from l2reg.config.presets import load_preset
from l2reg.runtime import configure_malloc, select_device


def variants(levels: Sequence[Sequence[int]]) -> dict[str, Mapping[str, Any]]:
    """Return settings by what they leave out or add."""
    return {
        "as set": {},
        "no refinement": {"refine": None},
        "no search": {"model": load_preset("model", "zero")},
        "search in one direction": {"model.inverse_consistent": False},
        "finest level only": {"refine.levels": levels[-1:]},
        "one step a level": {"refine.levels": [[*level[:2], 1] for level in levels]},
        "no elastic term": {"refine.elastic": 0.0},
        "MIND for all": {"refine.features": FEATURES["mind"]},
        "intensities for all": {"refine.features": FEATURES["matched intensities"]},
        "folds left": {"refine.diffeomorphic": False},
        "with keypoints": {"refine.points.weight": 1.0},
        "symmetric": {"refine.symmetric": True},
    }


@hydra.main(version_base="1.3", config_path=CONFIGS, config_name="predict")
def main(cfg: DictConfig) -> None:
    """Print a row for each variant."""
    configure_malloc()
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    data, pairs = checked(config)
    device = select_device(config["device"])
    for n, (name, settings) in enumerate(variants(config["refine"]["levels"]).items()):
        begin = time.perf_counter()
        losses = run(changed(config, settings), pairs, data, device)
        seconds = (time.perf_counter() - begin) / len(pairs)
        if n == 0:
            print("| variant | " + " | ".join([*losses, "seconds"]) + " |")
            print("|---" * (len(losses) + 2) + "|")
        values = [f"{value:.4g}" for value in losses.values()]
        print("| " + " | ".join([name, *values, f"{seconds:.1f}"]) + " |", flush=True)


if __name__ == "__main__":
    main()
