"""Register one pair with another package, whole command: read, register, write a submission.

python -m benchmarks.methods.register_peers greedy fixed.nii.gz moving.nii.gz disp_0001_0001.npz

``bench_register.py`` runs this once per pair. The packages come with ``pip install -e .[bench]``;
only the one that is asked for is imported. None is given labels or landmarks. Each is run as its
documentation says, on the intensities of the files, without tuning on these pairs.
"""

import argparse
import importlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch

from l2reg.io.volumes import read_affine, read_image
from l2reg.submission.fields import FullField, file_name, to_submission, write_field

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
IDENTITY = np.eye(4)
# Of the authors' entry of 2021 to the challenge (lung); inverse consistency off is theirs as well
LUNG_SETTING = {
    "grid_sp": 4,
    "disp_hw": 6,
    "selected_niter": 50,
    "lambda_weight": 0.65,
    "selected_smooth": 3,
    "ic": False,
}


@dataclass(frozen=True)
class Job:
    """What to register; ``masks`` is empty, or holds those of the fixed and the moving scan."""

    fixed: Path
    moving: Path
    masks: Sequence[Path]
    threads: int

    def affines(self) -> tuple[np.ndarray, np.ndarray]:
        """Return both scans' maps from voxels to the world that ITK counts in: LPS, mm."""
        fixed, moving = (RAS_TO_LPS @ read_affine(path) for path in (self.fixed, self.moving))
        return fixed, moving


def convexadam(job: Job, **settings: Any) -> FullField:
    """Run convexAdam; it returns voxels along the array's axes, components last."""
    package = importlib.import_module("convexAdam.convex_adam_MIND")
    images = [torch.from_numpy(read_image(path)) for path in (job.fixed, job.moving)]
    disp: np.ndarray = package.convex_adam_pt(*images, dtype=torch.float32, **settings)
    return np.moveaxis(disp, 3, 0)


def convexadam_lung(job: Job) -> FullField:
    """Run convexAdam as its authors did for the challenge's lungs, with masks where there are."""
    masks = dict(zip(("path_fixed_mask", "path_moving_mask"), job.masks, strict=False))
    return convexadam(job, **LUNG_SETTING, use_mask=bool(masks), **masks)


def ants(job: Job, **settings: Any) -> FullField:
    """Run ANTs: affine, then SyN; the point ``p`` of the world goes to ``affine(p + warp(p))``."""
    package = importlib.import_module("ants")
    fixed, moving = (package.image_read(str(path)) for path in (job.fixed, job.moving))
    with tempfile.TemporaryDirectory() as folder:
        found = package.registration(
            fixed, moving, outprefix=f"{folder}/", random_seed=1, **settings
        )
        warp_path, affine_path = found["fwdtransforms"]
        warp = read_warp(Path(warp_path))
        transform = package.read_transform(affine_path)
    centre = transform.fixed_parameters
    affine = np.eye(4)
    affine[:3, :3] = transform.parameters[:9].reshape(3, 3)
    affine[:3, 3] = transform.parameters[9:] + centre - affine[:3, :3] @ centre
    return in_voxels(warp, *job.affines(), affine)


def ants_mi(job: Job) -> FullField:
    """Run the default of ANTsPy: mutual information, 40 x 20 x 0 iterations."""
    return ants(job, type_of_transform="SyN")


def ants_cc(job: Job) -> FullField:
    """Run the same with cross-correlation of 5 voxels."""
    return ants(job, type_of_transform="SyN", syn_metric="CC", syn_sampling=2)


def greedy(job: Job) -> FullField:
    """Run greedy: NCC of 5 voxels, 100 x 50 x 10 iterations, the field written unrounded."""
    package = importlib.import_module("picsl_greedy")
    with tempfile.TemporaryDirectory() as folder:
        warp = Path(folder) / "warp.nii.gz"
        package.Greedy3D().execute(
            f"-d 3 -i {job.fixed} {job.moving} -m NCC 2x2x2 -n 100x50x10 -wp 0 -o {warp} "
            f"-threads {job.threads}"
        )
        return in_voxels(read_warp(warp), *job.affines())


PEERS: dict[str, Callable[[Job], FullField]] = {
    "convexadam": convexadam,
    "convexadam_lung": convexadam_lung,
    "ants_mi": ants_mi,
    "ants_cc": ants_cc,
    "greedy": greedy,
}


def read_warp(path: Path) -> FullField:
    """Return a field as ITK writes it: LPS millimetres, here components first."""
    vectors = np.asarray(nib.Nifti1Image.from_filename(path).dataobj, dtype=np.float32)
    return np.moveaxis(vectors.reshape(*vectors.shape[:3], 3), 3, 0)


def in_voxels(
    warp: FullField, fixed: np.ndarray, moving: np.ndarray, affine: np.ndarray = IDENTITY
) -> FullField:
    """Return displacements in voxels: of ``affine(p + warp(p))`` in the moving scan from ``p``.

    Args:
        warp: Of the fixed grid, in LPS millimetres.
        fixed: Voxels of the fixed scan to LPS millimetres.
        moving: The same of the moving scan.
        affine: Between two points of the world.
    """
    to_moving = np.linalg.inv(moving) @ affine
    drift = (to_moving @ fixed - np.eye(4)).astype(np.float32)
    voxels = np.indices(warp.shape[1:], dtype=np.float32)
    disp = np.tensordot(to_moving[:3, :3].astype(np.float32), warp, 1)
    disp += np.tensordot(drift[:3, :3], voxels, 1)
    disp += drift[:3, 3].reshape(3, 1, 1, 1)
    return disp


def main() -> None:
    """Register and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("fixed", type=Path)
    parser.add_argument("moving", type=Path)
    parser.add_argument("field", type=Path, help="to write, such as disp_0001_0001.npz")
    parser.add_argument("--masks", type=Path, nargs=2, default=[], help="fixed and moving")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    job = Job(options.fixed, options.moving, options.masks, options.threads)
    disp = np.ascontiguousarray(PEERS[options.peer](job), dtype=np.float32)
    (half,) = to_submission(torch.from_numpy(disp)[None], disp.shape[1:])
    pair_name = options.field.stem.removeprefix("disp_")
    if options.field.name != file_name(pair_name):
        parser.error(f"the field must be called {file_name('FIXED_MOVING')}")
    write_field(options.field.parent, pair_name, half)


if __name__ == "__main__":
    main()
