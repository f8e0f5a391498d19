r"""Score settings of ``model=convex task=abdomen`` on every ordered pair below L2REG_DATA.

python -m benchmarks.studies.abdomen_pairs OUT
python -m benchmarks.studies.abdomen_pairs OUT --settings "" "refine.elastic=0.1 refine.viscous=0.6"
python -m benchmarks.studies.abdomen_pairs OUT --cases scans --peer-python PYTHON

Settings are options of ``predict.py``, "" what is set. Cases are the three MR scans in all orders
and MR and CT of one patient in both (``scans``), the same with the moving scan turned, cropped or
biased, and phantoms. All are registered in this process; a search is made once for all settings
that share it. Prints Dice, SDlogJ and folds in percent of every pair, as submitted, by the rules
of 2021; then means, the largest loss and gain to the first setting, the seconds of a refinement,
and which settings have the best mean Dice when each pair is left out in turn. ``--peer-python`` is
a Python whose environment has picsl_greedy and what l2reg needs: greedy stands beside the settings.
Say so where scores are reported on pairs that settings were chosen on.
"""

import argparse
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from scipy.ndimage import affine_transform
from scipy.spatial.transform import Rotation

from l2reg.config.build import build
from l2reg.config.presets import config_dir
from l2reg.data.dataset import Dataset
from l2reg.data.pairs import Pair, Scan
from l2reg.data.task import Task
from l2reg.evaluation.score_field import load_ground_truth, score_field
from l2reg.inference.method import Method
from l2reg.inference.predictor import Predictor
from l2reg.phantom.make import make_phantom
from l2reg.runtime import configure_malloc
from l2reg.shapes import Field
from l2reg.submission.fields import FullField, file_name, read_field, to_submission
from l2reg.submission.half_resolution import upsample
from l2reg.submission.rules import RULES

CASES = ("scans", "turned", "cropped", "biased", "phantoms")
TURN_DEG = (3.0, -4.0, 5.0)
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Score:
    """Scores of one field; folds in percent, seconds of its refinement."""

    dice: float
    sdlogj: float
    folds: float
    seconds: float

    def __str__(self) -> str:
        return f"{self.dice:.3f} / {self.sdlogj:.3f} / {self.folds:.3f}"


def pairs(cases: Sequence[str], root: Path, out: Path) -> Iterator[tuple[str, Pair]]:
    """Return the pairs of the cases, with their names."""
    scans = {"MR": dataset(root, root / "task_01/MRIs/pairs_val.csv"), "CT": dataset(root, None)}
    chaos = {pair.fixed.id: pair.fixed for pair in scans["MR"].split_pairs("val")}
    real = {
        f"MR {a} <- {b}": Pair(fixed=chaos[a], moving=chaos[b])
        for a, b in itertools.permutations(sorted(chaos), 2)
    }
    for pair in scans["CT"].split_pairs("val"):
        real[f"MR {pair.fixed.id} <- CT"] = pair
        real[f"CT <- MR {pair.fixed.id}"] = pair.swap()
    for case in cases:
        if case == "phantoms":
            for seed in SEEDS:
                folder = out / f"phantom_{seed}"
                if not folder.exists():
                    make_phantom("abdomen", folder, n_pairs=1, size="full", seed=seed)
                yield f"phantom {seed}", dataset(folder, None).split_pairs("val")[0]
            continue
        for name, pair in real.items():
            if case != "biased" or pair.moving.modality == "MR":
                moving = pair.moving if case == "scans" else disturbed(pair.moving, case, out)
                yield (
                    f"{name}{'' if case == 'scans' else ', ' + case}",
                    replace(pair, moving=moving),
                )


def composed(options: str) -> dict[str, Any]:
    """Return what the settings make of the config, of the nodes that say how to register."""
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        overrides = ["task=abdomen", "model=convex", "data.cache=null", *options.split()]
        config: Any = compose("predict", overrides)
    return {
        node: OmegaConf.to_container(config[node], resolve=True) if config[node] else None
        for node in ("task", "data", "model", "refine")
    }


def dataset(root: Path, listed: Path | None) -> Dataset:
    """Return the abdomen's scans below a folder, with its pairs or those of a list."""
    config = composed("")
    node = {**config["data"], "root": root, "pairs": listed}
    data: Dataset = build(node, task=build(config["task"]))
    return data


def disturbed(scan: Scan, case: str, out: Path) -> Scan:
    """Return the scan with files that are turned, cropped or biased."""
    folder = out / case
    folder.mkdir(parents=True, exist_ok=True)
    files = {"image": scan.image, "labels": scan.labels, "mask": scan.mask}
    new: dict[str, Any] = {}
    for kind, path in files.items():
        if path is None and not (kind == "mask" and case == "cropped"):
            continue
        image = nib.Nifti1Image.from_filename(path or scan.image)
        array = image.get_fdata(dtype=np.float32)
        if path is None:
            array = np.ones_like(array)
        target = folder / (path.name if path else f"mask_{scan.image.name}")
        air = -1000.0 if scan.modality == "CT" else 0.0
        changed = change(array, case, kind, air if kind == "image" else 0.0)
        nib.save(nib.Nifti1Image(changed, image.affine), target)
        new[kind] = target
    return replace(scan, **new)


def change(array: np.ndarray, case: str, kind: str, air: float) -> np.ndarray:
    """Return a scan's image, labels or mask after a disturbance; labels are never cropped."""
    if case == "turned":
        matrix = Rotation.from_euler("xyz", TURN_DEG, degrees=True).as_matrix()
        centre = (np.array(array.shape) - 1) / 2
        order = 1 if kind == "image" else 0
        turned: np.ndarray = affine_transform(
            array, matrix, centre - matrix @ centre, order=order, cval=air
        )
        return turned
    if case == "cropped" and kind != "labels":
        cropped = array.copy()
        inside = np.flatnonzero((array > air).any(axis=(0, 1)))
        margin = len(inside) // 8
        cropped[:, :, : inside[0] + margin] = cropped[:, :, inside[-1] - margin :] = air
        return cropped
    if case == "biased" and kind == "image":
        ramp: np.ndarray = array * np.linspace(0.6, 1.4, array.shape[1], dtype=np.float32)[:, None]
        return ramp
    return array


class Settings:
    """Settings, and the fields they give; a search is remembered until the next pair."""

    def __init__(self, options: str) -> None:
        config = composed(options)
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
    return Score(values["dsc"], values["sdlogj"], 100 * values["folds"], seconds)


def summary(found: Mapping[str, Mapping[str, Score]]) -> Iterator[str]:
    """Return lines of the means, the changes against the first setting, and who would be chosen."""
    names = list(next(iter(found.values())))
    dice = np.array([[row[name].dice for name in names] for row in found.values()])
    change = dice - dice[:, :1]
    for n, name in enumerate(names):
        column = [row[name] for row in found.values()]
        mean = Score(*(float(np.mean([getattr(one, key) for one in column]))
                       for key in ("dice", "sdlogj", "folds", "seconds")))  # fmt: skip
        largest = max(one.sdlogj for one in column)
        yield (
            f"{name}: mean {mean}, largest SDlogJ {largest:.3f}, better in "
            f"{(change[:, n] > 0).sum()} of {len(dice)}, change {change[:, n].min():+.3f} to "
            f"{change[:, n].max():+.3f}, {mean.seconds:.1f} s"
        )
    ours = dice[:, [name != "greedy" for name in names]]
    without = {names[np.delete(ours, n, axis=0).mean(axis=0).argmax()] for n in range(len(ours))}
    yield f"best mean Dice whichever pair is left out: {'; '.join(sorted(without))}"


def main() -> None:
    """Print a row for each pair, then the summary."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("out", type=Path, help="folder for what is made: phantoms, disturbed scans")
    parser.add_argument("--settings", nargs="+", default=[""])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--pairs", nargs="+", help="such as 'MR 1 <- 2'; all by default")
    parser.add_argument("--peer-python")
    options = parser.parse_args()
    if not os.environ.get("L2REG_DATA"):
        sys.exit("this needs real pairs: name their folder in the environment's L2REG_DATA")
    configure_malloc()
    tried = [Settings(each) for each in options.settings]
    root, task = Path(os.environ["L2REG_DATA"]), tried[0].predictor.reader.task
    titles = [each.name for each in tried] + (["greedy"] if options.peer_python else [])
    print(f"| pair | {' | '.join(titles)} |\n|{'---|' * (1 + len(titles))}", flush=True)
    found: dict[str, dict[str, Score]] = {}
    for name, pair in pairs(options.cases, root, options.out):
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
    print("\n" + "\n".join(summary(found)))


if __name__ == "__main__":
    main()
