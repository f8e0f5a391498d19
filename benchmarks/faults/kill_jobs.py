"""Jobs that are killed: how each is started, started again, and what it must have written."""

import contextlib
import hashlib
import json
import os
import runpy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import yaml
from scipy.ndimage import gaussian_filter

from benchmarks.faults.kinds import OVERRIDES, SHAPE, digest, tiny_config, write_tiny_data
from l2reg.checkpoints import storage
from l2reg.cli.main import main as l2reg
from l2reg.config.build import build
from l2reg.data.dataset import Dataset
from l2reg.io.files import atomic_write
from l2reg.submission.bundle import join_bundles, write_bundle
from l2reg.submission.fields import write_field

ROOT = Path(__file__).parents[2]
STEPS = 12
OUT = "out"
_VARYING = (".l2reg_", "events.out", "environment.json", ".part_")


@dataclass(frozen=True)
class Job:
    """Job that works in the current folder, and writes to ``OUT``.

    Attributes:
        name: Name of the job.
        start: Function that does the job; it sees what earlier, killed runs left.
        is_fixed: Whether every file has its last content as soon as it has its name.
    """

    name: str
    start: Callable[[], None]
    is_fixed: bool = True


def prepare(folder: Path) -> None:
    """Write what the jobs read below ``folder``."""
    os.chdir(folder)
    write_tiny_data(folder / "root")
    rng = np.random.default_rng(0)
    for name in ("fixed", "moving"):
        scan = 1000 * gaussian_filter(rng.normal(0, 1, (16, 14, 18)), 2)
        nib.save(nib.Nifti1Image(scan.astype(np.float32), np.eye(4)), f"{name}.nii.gz")
    for n in range(1, 21):
        write_field(folder / "fields/task_02", f"{n:04}_{n:04}", _field(rng))
    l2reg(["phantom", "--flavour", "lung", "--out", "phantom", "--pairs", "2"])
    run_script("train.py", *OVERRIDES, f"data.root={folder / 'root'}")
    run_script("predict.py", *_prediction(folder), "out=predicted")


def _field(rng: np.random.Generator) -> np.ndarray:
    field: np.ndarray = rng.normal(0, 1, (3, 36, 32, 40)).astype(np.float16)
    return field


def _prediction(folder: Path) -> list[str]:
    return [f"ckpt={folder / 'run'}", f"data.root={folder / 'root'}", "device=cpu",
            "data.cache=cache", "save=[warped,transform,grid]"]  # fmt: skip


def run_script(name: str, *options: str) -> None:
    """Run a script of the checkout in this process; a fault ends the process."""
    sys.argv = [name, *options]
    runpy.run_path(str(ROOT / name), run_name="__main__")


def jobs(folder: Path) -> list[Job]:
    """Return all jobs; ``folder`` is that of ``prepare``."""
    return [
        Job("train", partial(_train, folder), is_fixed=False),
        Job("predict", partial(_predict, folder)),
        Job("evaluate", partial(_evaluate, folder)),
        Job("register", partial(_register, folder)),
        Job("phantom", _phantom),
        Job("cache", partial(_read_through_cache, folder)),
        Job("zip", partial(_bundle, folder)),
    ]


def _train(folder: Path) -> None:
    again = []
    if Path(OUT).exists():
        again = ["resume=true" if Path(OUT, storage.LAST).exists() else "overwrite=true"]
    run_script("train.py", *OVERRIDES[:-3], f"data.root={folder / 'root'}", f"run_dir={OUT}",
               f"trainer.max_steps={STEPS}", "trainer.checkpoint_every=2",
               "trainer.validate_every=4", "trainer.picture_every=8", *again)  # fmt: skip


def _predict(folder: Path) -> None:
    run_script("predict.py", *_prediction(folder), f"out={OUT}", "overwrite=true")


def _evaluate(folder: Path) -> None:
    run_script("evaluate.py", "task=lung", f"task.shape={list(SHAPE)}",
               f"data.root={folder / 'root'}", "data.cache=cache",
               f"submission=[{folder / 'predicted/task_02.zip'}]", f"out={OUT}", "report=true",
               "workers=1")  # fmt: skip


def _register(folder: Path) -> None:
    scans = [str(folder / f"{name}.nii.gz") for name in ("fixed", "moving")]
    l2reg(["register", *scans, "--out", OUT, "--prealign", "none", "--device", "cpu"])


def _phantom() -> None:
    if not Path(OUT).exists():
        l2reg(["phantom", "--flavour", "abdomen", "--out", OUT, "--pairs", "1"])


def _read_through_cache(folder: Path) -> None:
    config = tiny_config(f"data.root={folder / 'phantom'}", script="predict")
    config["data"]["cache"] = OUT
    config["task"] |= {"shape": [72, 64, 80]}
    data: Dataset = build(config["data"], task=build(config["task"]))
    pairs = [*data.split_pairs("val"), *data.training_set.intra_patient]
    read = [data.reader(grid).read(pair) for pair in pairs for grid in ("half", "full")]
    with atomic_write(Path(OUT, "result.json")) as temporary:
        values = [digest(*batch.values()) for batch in read]
        temporary.write_text(json.dumps(values), encoding="utf-8")


def _bundle(folder: Path) -> None:
    own = Path(OUT, "task_02.zip")
    write_bundle(folder / "fields", "task_02", own)
    join_bundles([own], Path(OUT, "submission.zip"))


def contents(folder: Path) -> dict[str, str]:
    """Return the content of all files that are the same in every run, by their paths."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(folder)): content(path)
        for path in files
        if not any(part.startswith(_VARYING) for part in path.parts)
    }


def content(path: Path) -> str:
    """Return the content of a file as text, without runtimes and options of the restart.

    Raises:
        Exception: If the file is cut.
    """
    if path.suffix == ".pt":
        state = storage.load(path)
        return digest(state["step"], *_leaves(state))
    if path.name in ("config.yaml", "scores.json"):
        return digest(_without_varying(yaml.safe_load(path.read_text(encoding="utf-8"))))
    if path.name == "timings.csv":
        return digest([line.split(",")[0] for line in path.read_text().splitlines()])
    if path.name == "metrics.jsonl":
        with contextlib.suppress(ValueError):  # the last line may be cut
            return digest([json.loads(line) for line in path.read_text().splitlines()])
        return "cut"
    whole = path.read_bytes()
    if path.name == "report.html":  # without the command and the date
        whole = whole.partition(b"<h2>How it was made</h2>")[0]
    return hashlib.sha256(whole).hexdigest()


def _leaves(node: object) -> list[object]:
    if isinstance(node, dict):
        return [leaf for key, value in sorted(node.items(), key=str) if key != "config"
                for leaf in _leaves(value)]  # fmt: skip
    if isinstance(node, list | tuple):
        return [leaf for value in node for leaf in _leaves(value)]
    return [node]


def _without_varying(node: object) -> object:
    if isinstance(node, dict):
        left_out = ("seconds", "resume", "overwrite", "runtime")
        return {k: _without_varying(v) for k, v in node.items() if k not in left_out}
    return [_without_varying(value) for value in node] if isinstance(node, list) else node
