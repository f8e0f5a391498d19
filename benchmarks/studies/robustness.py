r"""Register pairs that are disturbed as strangers' scans are, and compare with what is true.

python -m benchmarks.studies.robustness --out OUT
python -m benchmarks.studies.robustness --out OUT --before CHECKOUT --peer-python PYTHON

Every base (a phantom lung, brain and abdomen; the real ones below L2REG_DATA) is disturbed in every
way of ``robustness_pairs``, and registered by a command of its own: ``l2reg register`` of this
checkout, of another one (``--before``), greedy and elastix (``--peer-python``: one that has
picsl_greedy, itk-elastix, nibabel). The error is the length of the difference between the vectors
of ``transform.nii.gz`` and the true ones, in mm, over the body where the moving scan shows it; its
mean and 95th percentile. A flag is a warning in ``registration.json``. Writes ``robustness.md`` and
``robustness.json`` to OUT; what is there already is not run again.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from benchmarks.studies.robustness_pairs import DISTURBANCES, DisturbedPair, bases, deformed
from l2reg.io.files import strict_json

ROOT = Path(__file__).parents[2]
PEERS = ("greedy", "elastix")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
REGISTER = "from l2reg.cli import main; (main if callable(main) else main.main)()"


@dataclass(frozen=True)
class Job:
    """One method on one pair, in a folder of its own."""

    base: str
    disturbance: str
    method: str
    like: str
    folder: Path

    @property
    def out(self) -> Path:
        """Folder that the method writes to."""
        return self.folder / re.sub(r"\W+", "_", self.method)

    def command(self, options: argparse.Namespace) -> tuple[list[str], Path]:
        """Return the command, and the folder that it is run in."""
        files = [str(self.folder / "fixed.nii.gz"), str(self.folder / "moving.nii.gz")]
        if self.method in PEERS:
            script = ROOT / "benchmarks/studies/robustness_peers.py"
            peer = [str(options.peer_python), str(script), self.method, *files, str(self.out)]
            return [*peer, str(options.threads)], self.folder  # elastix writes files where it runs
        checkout = ROOT if self.method == "l2reg" else options.before
        register = [sys.executable, "-c", REGISTER, "register", *files, "--like", self.like]
        return [*register, "--out", str(self.out), "--device", "cpu"], checkout


def run(job: Job, options: argparse.Namespace) -> dict[str, object]:
    """Run a method on a pair, and return its errors and flags."""
    result = job.out.with_suffix(".json")
    if result.is_file():
        found: dict[str, object] = json.loads(result.read_text(encoding="utf-8"))
        return found
    command, working_folder = job.command(options)
    environment = os.environ | {"PYTHONPATH": str(working_folder)}
    environment |= dict.fromkeys(THREADS, str(options.threads))
    done = subprocess.run(
        command, cwd=working_folder, env=environment, capture_output=True, text=True, check=False
    )
    found = {"base": job.base, "disturbance": job.disturbance, "method": job.method}
    transform = job.out / "transform.nii.gz"
    if done.returncode != 0 or not transform.is_file():
        lines = (done.stdout + done.stderr).strip().splitlines()
        refused = any(line.startswith("error: ") for line in lines)
        found |= {"status": "refused" if refused else "failed", "said": lines[-8:]}
    else:
        error = errors_mm(transform, np.load(job.folder / "truth.npz", allow_pickle=False))
        finite = bool(np.isfinite(error).all())
        found |= {"status": "done" if finite else "not finite", "mean_mm": float(error.mean())}
        found |= {"p95_mm": float(np.percentile(error, 95))}
        report = job.out / "registration.json"
        if report.is_file():
            verdict = json.loads(report.read_text(encoding="utf-8"))["verdict"]
            found["flags"] = verdict["flags"]
    result.write_text(strict_json(found, indent=1), encoding="utf-8")
    print(job.base, "|", job.disturbance, "|", job.method, "|", cell(found), flush=True)
    return found


def errors_mm(transform: Path, known: np.lib.npyio.NpzFile) -> np.ndarray:
    """Return the error in mm of every voxel of the region."""
    image = nib.Nifti1Image.from_filename(transform)
    vectors = np.squeeze(image.get_fdata()) * [-1, -1, 1]  # LPS to RAS
    world = np.moveaxis(np.indices(vectors.shape[:3]), 0, -1) @ image.affine[:3, :3].T
    away = world + image.affine[:3, 3] + vectors - np.moveaxis(known["truth"], 0, -1)
    lengths: np.ndarray = np.linalg.norm(away, axis=-1)[known["region"]]
    return lengths


def prepare(pair: DisturbedPair, folder: Path) -> None:
    """Write the files of a pair, and what is true of it."""
    folder.mkdir(parents=True, exist_ok=True)
    pair.fixed.save(folder / "fixed.nii.gz")
    pair.moving.save(folder / "moving.nii.gz")
    inverse = np.linalg.inv(pair.moving.affine)
    voxels = np.tensordot(inverse[:3, :3], pair.truth, 1) + inverse[:3, 3].reshape(3, 1, 1, 1)
    last = np.array(pair.moving.array.shape).reshape(3, 1, 1, 1) - 1
    region = pair.region & ((voxels >= 0) & (voxels <= last)).all(axis=0)
    np.savez_compressed(folder / "truth.npz", truth=pair.truth.astype(np.float32), region=region)


def cell(found: dict[str, object]) -> str:
    """Return a cell of the table."""
    if found["status"] != "done":
        return str(found["status"])
    mark = " !" if found.get("flags") else ""
    return f"{found['mean_mm']:.1f} / {found['p95_mm']:.1f}{mark}"


def table(results: Sequence[dict[str, object]], methods: Sequence[str]) -> str:
    """Return one table for each base."""
    lines = []
    for base in dict.fromkeys(str(found["base"]) for found in results):
        lines += [f"\n### {base.capitalize()}\n", f"| moving scan | {' | '.join(methods)} |"]
        lines.append("|---" * (1 + len(methods)) + "|")
        for disturbance in DISTURBANCES:
            row = {str(f["method"]): cell(f) for f in results
                   if (f["base"], f["disturbance"]) == (base, disturbance)}  # fmt: skip
            if row:
                cells = " | ".join(row.get(method, "") for method in methods)
                lines.append(f"| {disturbance} | {cells} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run all methods on all pairs, and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--before", type=Path, help="another checkout of l2reg")
    parser.add_argument(
        "--peer-python", type=Path, help="Python that has picsl_greedy, itk-elastix, nibabel"
    )
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=[*PEERS])
    parser.add_argument("--bases", nargs="+", help="such as 'real brain'; all by default")
    parser.add_argument("--disturbances", nargs="+", choices=DISTURBANCES, default=[*DISTURBANCES])
    parser.add_argument("--threads", type=int, default=1, help="of every run")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time")
    parser.add_argument("--seed", type=int, default=0, help="of the true displacement")
    options = parser.parse_args()
    options.out, options.before, options.peer_python = (  # commands run in other folders
        path and path.absolute() for path in (options.out, options.before, options.peer_python)
    )
    options.out.mkdir(parents=True, exist_ok=True)
    methods = ["l2reg", *(["before"] if options.before else [])]
    methods += options.peers if options.peer_python else []
    jobs = []
    for name, base in bases(options.out).items():
        if options.bases and name not in options.bases:
            continue
        pair = deformed(base, options.seed)
        for disturbance in options.disturbances:
            folder = options.out / re.sub(r"\W+", "_", f"{name} {disturbance}")
            prepare(DISTURBANCES[disturbance](pair, base), folder)
            jobs += [Job(name, disturbance, method, base.like, folder) for method in methods]
    with ThreadPoolExecutor(options.workers) as pool:
        results = list(pool.map(lambda job: run(job, options), jobs))
    (options.out / "robustness.json").write_text(strict_json(results, indent=1), encoding="utf-8")
    (options.out / "robustness.md").write_text(table(results, methods), encoding="utf-8")
    print(table(results, methods))


if __name__ == "__main__":
    main()
