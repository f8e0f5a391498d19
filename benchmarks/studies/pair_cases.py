"""The pairs that ``real_pairs`` scores: real scans in all orders, disturbed ones, phantoms."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
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
from l2reg.phantom.make import make_phantom

CASES = {
    "abdomen": ("scans", "turned", "cropped", "biased", "phantoms"),
    "oasis": ("scans", "turned", "cropped", "biased", "phantoms"),
    "lung": ("scans", "phantoms"),  # disturbed scans would have other landmarks
}
TURN_DEG = (3.0, -4.0, 5.0)
SEEDS = (0, 1, 2)


def pairs(task: str, cases: Sequence[str], root: Path, out: Path) -> Iterator[tuple[str, Pair]]:
    """Return the pairs of the cases, with their names."""
    real = abdomens(root) if task == "abdomen" else both_directions(task, root)
    for case in cases:
        if case == "phantoms":
            for seed in SEEDS:
                folder = out / f"phantom_{task}_{seed}"
                if not folder.exists():
                    make_phantom(task, folder, n_pairs=1, size="full", seed=seed)
                yield f"phantom {seed}", dataset(task, folder, None).split_pairs("val")[0]
            continue
        for name, pair in real.items():
            if case != "biased" or pair.moving.modality == "MR":
                moving = pair.moving if case == "scans" else disturbed(pair.moving, case, out)
                yield (
                    f"{name}{'' if case == 'scans' else ', ' + case}",
                    replace(pair, moving=moving),
                )


def abdomens(root: Path) -> dict[str, Pair]:
    """Return the MR scans in all orders, and MR and CT in both."""
    listed = dataset("abdomen", root, root / "task_01/MRIs/pairs_val.csv").split_pairs("val")
    chaos = {pair.fixed.id: pair.fixed for pair in listed}
    real = {
        f"MR {a} <- {b}": Pair(fixed=chaos[a], moving=chaos[b])
        for a, b in itertools.permutations(sorted(chaos), 2)
    }
    for pair in dataset("abdomen", root, None).split_pairs("val"):
        real[f"MR {pair.fixed.id} <- CT"] = pair
        real[f"CT <- MR {pair.fixed.id}"] = pair.swap()
    return real


def both_directions(task: str, root: Path) -> dict[str, Pair]:
    """Return the validation pairs, and each swapped."""
    real = {}
    for pair in dataset(task, root, None).split_pairs("val"):
        for each in (pair, pair.swap()):
            real[f"{scan_name(each.fixed)} <- {scan_name(each.moving)}"] = each
    return real


def scan_name(scan: Scan) -> str:
    """Return the name of a scan's file without what all have."""
    return scan.image.name.removesuffix(".nii.gz")


def composed(task: str, options: str) -> dict[str, Any]:
    """Return what the settings make of the config, of the nodes that say how to register."""
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        overrides = [f"task={task}", "model=convex", "data.cache=null", *options.split()]
        config: Any = compose("predict", overrides)
    return {
        node: OmegaConf.to_container(config[node], resolve=True) if config[node] else None
        for node in ("task", "data", "model", "refine")
    }


def dataset(task: str, root: Path, listed: Path | None) -> Dataset:
    """Return a task's scans below a folder, with its pairs or those of a list."""
    config = composed(task, "")
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
        if path is None:
            continue
        image = nib.Nifti1Image.from_filename(path)
        array = image.get_fdata(dtype=np.float32)
        target = folder / path.name
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
