"""Show that a change of the code changes no result: run both checkouts, compare what they wrote.

    python -m benchmarks.studies.same_results run OUT_BEFORE    (in the checkout before it)
    python -m benchmarks.studies.same_results run OUT_AFTER     (in the checkout after it)
    python -m benchmarks.studies.same_results compare OUT_BEFORE OUT_AFTER

Runs on the CPU, on a phantom lung and, where L2REG_DATA names them, on the real lung and brain: the
zip of ``model=convex`` byte by byte and its scores; the losses of 20 training steps of ``unet`` and
``pyramid`` and every weight after them; the files of ``l2reg register`` for scans of unlike grids.
Both checkouts must run on the same machine with the same number of threads.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from scipy.ndimage import zoom

ROOT = Path.cwd()
STEPS = 20
PHANTOM = "data/phantom/lung_small_0/task_02/training/scans/case_001_{}.nii.gz"
REAL = {
    "lung": ("task_02/training/scans/case_001_exp.nii.gz",
             "task_02/training/scans/case_001_insp.nii.gz"),
    "oasis": ("task_03/img0438.nii.gz", "task_03/img0439.nii.gz"),
}  # fmt: skip


def main() -> None:
    """Run one checkout, or compare what two of them wrote."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(required=True, dest="command")
    run = commands.add_parser("run")
    run.add_argument("out", type=Path)
    compare = commands.add_parser("compare")
    compare.add_argument("before", type=Path)
    compare.add_argument("after", type=Path)
    options = parser.parse_args()
    if options.command == "run":
        run_all(options.out.absolute())
    else:
        sys.exit(compare_all(options.before, options.after))


def run_all(out: Path) -> None:
    """Write the digest of every result to ``out/digests.json``."""
    out.mkdir(parents=True)
    real = os.environ.get("L2REG_DATA")
    digests: dict[str, str] = {}
    for task in ("phantom", *(REAL if real else ())):
        digests |= convex(task, out)
        fixed, moving = (
            (out / PHANTOM.format("exp"), out / PHANTOM.format("insp"))
            if task == "phantom"
            else (Path(real or "") / name for name in REAL[task])
        )
        digests |= register(task, fixed, moving, out)
        for model in ("unet", "pyramid"):
            digests |= train(task, model, out)
        (out / "digests.json").write_text(json.dumps(digests, indent=1))


def convex(task: str, out: Path) -> dict[str, str]:
    """Predict the validation pairs without training: the zip's bytes, and the scores."""
    folder = out / f"convex_{task}"
    script("predict.py", "model=convex", f"task={task}", "device=cpu", f"out={folder}", cwd=out)
    (zipped,) = folder.glob("*.zip")
    scores = json.loads((folder / "scores.json").read_text())
    for submission in scores["submissions"].values():
        del submission["seconds"]
    return {
        f"{task} convex zip": digest(zipped.read_bytes()),
        f"{task} convex scores": digest(json.dumps(scores).encode()),
    }


def register(task: str, fixed: Path, moving: Path, out: Path) -> dict[str, str]:
    """Register two files, the moving one on a grid of its own."""
    image = nib.Nifti1Image.from_filename(moving)
    factors = (0.8, 1.1, 0.9)
    array = zoom(np.asarray(image.dataobj, dtype=np.float32), factors, order=1)
    ratio = [(old - 1) / (new - 1) for old, new in zip(image.shape, array.shape, strict=True)]
    other = out / f"{task}_moving.nii.gz"
    nib.save(nib.Nifti1Image(array, image.affine @ np.diag([*ratio, 1.0])), other)
    entry = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["l2reg"]
    module, _, function = entry.partition(":")
    folder = out / f"register_{task}"
    like = "oasis" if task == "oasis" else "lung"
    arguments = ["register", str(fixed), str(other), "--out", str(folder), "--like", like]
    code = f"from {module} import {function}; {function}({[*arguments, '--device', 'cpu']!r})"
    run([sys.executable, "-c", code], out)
    found = {}
    for name in ("transform", "warped"):
        written = nib.Nifti1Image.from_filename(folder / f"{name}.nii.gz")
        content = np.asarray(written.dataobj).tobytes() + written.affine.tobytes()
        found[f"{task} register {name}"] = digest(content)
    return found


def train(task: str, model: str, out: Path) -> dict[str, str]:
    """Train for a few steps: what was logged, and every tensor of the network."""
    folder = out / f"{task}_{model}"
    options = [f"task={task}", f"model={model}", "device=cpu", f"run_dir={folder}"]
    options += [f"trainer.max_steps={STEPS}", f"trainer.validate_every={STEPS}",
                "trainer.picture_every=0", "data.sampling.val_images=true"]  # fmt: skip
    script("train.py", *options, cwd=out)
    weights = torch.load(folder / "last.pt", weights_only=True)["model"]  # noqa: TID251 - of either checkout
    content = b"".join(name.encode() + t.numpy().tobytes() for name, t in sorted(weights.items()))
    return {
        f"{task} {model} metrics": digest((folder / "metrics.jsonl").read_bytes()),
        f"{task} {model} weights": digest(content),
    }


def script(name: str, *arguments: str, cwd: Path) -> None:
    """Run one of the three scripts of the checkout."""
    run([sys.executable, str(ROOT / name), *arguments], cwd)


def run(command: list[str], cwd: Path) -> None:
    """Run a command with the checkout's package, whatever is installed."""
    subprocess.run(command, cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)


def digest(content: bytes) -> str:
    """Return the SHA-256 of ``content``."""
    return hashlib.sha256(content).hexdigest()


def compare_all(before: Path, after: Path) -> int:
    """Print a line for every result, and return 1 if any of them differs."""
    old, new = (read(folder) for folder in (before, after))
    for name in sorted({*old, *new}):
        print(f"{'equal' if old.get(name) == new.get(name) else 'DIFFERENT':10} {name}")
    return int(old != new)


def read(folder: Path) -> dict[str, Any]:
    """Return the digests that ``run_all`` wrote."""
    content: dict[str, Any] = json.loads((folder / "digests.json").read_text())
    return content


if __name__ == "__main__":
    main()
