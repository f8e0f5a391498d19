r"""Time whole training loops side by side: ours, a plain MONAI loop, and one with voxelmorph.

python -m benchmarks.methods.bench_loops --size full --steps 40 --precisions float32 tf32 bf16

The same network (model=unet on every voxel), pairs (phantom brains with 35 labels), batch of one
pair and losses (local NCC over 9 voxels, diffusion, soft Dice) in every loop, without augmentation.
MONAI reads by CacheDataset and DataLoader, warps by Warp and compares by its
LocalNormalizedCrossCorrelationLoss, DiffusionLoss and DiceLoss; voxelmorph (pip install voxelmorph)
takes those volumes, its SpatialTransformer, and neurite's NCC, SpatialGradient and Dice. The first
quarter of the steps warms up. Further arguments are options of train.py for our loop alone.
"""

import argparse
import gc
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from monai.data.dataloader import DataLoader
from monai.data.dataset import CacheDataset
from monai.losses.deform import DiffusionLoss
from monai.losses.dice import DiceLoss
from monai.losses.image_dissimilarity import LocalNormalizedCrossCorrelationLoss
from monai.networks.blocks.warp import Warp
from monai.networks.utils import one_hot
from monai.transforms.compose import Compose
from monai.transforms.intensity.dictionary import ScaleIntensityd
from monai.transforms.io.dictionary import LoadImaged
from monai.transforms.utility.dictionary import EnsureChannelFirstd
from torch import Tensor, nn

from benchmarks.methods.networks import composed, table
from l2reg.batch import Batch
from l2reg.config.build import build
from l2reg.data.dataset import Dataset
from l2reg.phantom.make import make_phantom
from l2reg.runtime import autocast, configure_convolutions, configure_malloc, select_device
from l2reg.training import trainer as training
from l2reg.training.prefetch import prefetch
from l2reg.training.setup import prepare_training

N_LABELS = 36  # with the background
NO_AUGMENT = [f"data.augment.{name}=0"
              for name in ("rotation_deg", "scale", "translation_mm", "gain", "noise")]  # fmt: skip
LOSS = ["loss=lncc", "loss.terms.similarity.window=9", "loss.weights.dice=1"]
Losses = Callable[[Batch, Tensor], Tensor]


@dataclass(frozen=True)
class Speed:
    """Seconds a step, the share of them spent waiting for data, and the GPU's peak GiB."""

    seconds: float
    waiting: float
    gib: float


class Waiting:
    """Batches of an iterator, and the seconds that were spent waiting for them."""

    def __init__(self, batches: Iterable[Any], steps: int) -> None:
        self.batches = batches
        self.warm_up = steps // 4
        self.steps = steps
        self.waited = self.started_at = 0.0

    def __iter__(self) -> Iterator[Any]:
        source = iter(self.batches)
        for step in range(self.steps):
            if step == self.warm_up:
                _synchronize()
                self.waited, self.started_at = 0.0, time.perf_counter()
            begin = time.perf_counter()
            batch = next(source)
            self.waited += time.perf_counter() - begin
            yield batch

    def speed(self) -> Speed:
        """Return what was measured, once all steps are done."""
        _synchronize()
        seconds = time.perf_counter() - self.started_at
        n_steps = self.steps - self.warm_up
        return Speed(seconds / n_steps, self.waited / seconds, _peak_gib())


def ours(config: dict[str, Any]) -> Speed:
    """Train as train.py does, without validation and checkpoints in between."""
    trainer = prepare_training(config)
    timers: list[Waiting] = []

    def timed(batches: Any, steps: range, device: torch.device) -> Iterator[Batch]:
        timers.append(Waiting(prefetch(batches, steps, device), len(steps)))
        return iter(timers[0])

    with patch.object(training, "prefetch", timed):
        trainer.run()
    return timers[0].speed()


def plain_loop(config: dict[str, Any], made: Callable[[], Losses], device: torch.device) -> Speed:
    """Train the network of a config by the shortest loop that a tutorial would write."""
    network: nn.Module = build(config["model"]).to(device).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    losses = made()
    waiting = Waiting(monai_batches(config, device), config["trainer"]["max_steps"])
    for read in waiting:
        batch = {name: read[name].to(device).as_tensor() for name in KEYS}
        with autocast(device, config["trainer"]["precision"]):
            disp = network(batch).disp
        loss = losses(batch, disp)  # type: ignore[arg-type]
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        loss.item()  # what a loop prints
    return waiting.speed()


KEYS = ("fixed", "moving", "fixed_labels", "moving_labels")


def monai_batches(config: dict[str, Any], device: torch.device) -> Iterator[Any]:
    """Yield the training pairs for ever, as MONAI's tutorials read them."""
    data: Dataset = build(config["data"], task=build(config["task"]))
    scans = data.training_set.scans
    files = [
        {"fixed": a.image, "moving": b.image, "fixed_labels": a.labels, "moving_labels": b.labels}
        for a, b in zip(scans, [*scans[1:], scans[0]], strict=True)
    ]
    transform = Compose([LoadImaged(KEYS), EnsureChannelFirstd(KEYS),
                         ScaleIntensityd(("fixed", "moving"))])  # fmt: skip
    dataset = CacheDataset(files, transform, progress=False)
    workers = 2 if device.type == "cuda" else 0
    loader = DataLoader(dataset, batch_size=1, shuffle=True, num_workers=workers,
                        persistent_workers=workers > 0, pin_memory=workers > 0)  # fmt: skip
    while True:
        yield from loader


def monai_losses() -> Losses:
    """Return the sum of MONAI's losses."""
    warp: Any = Warp("bilinear", "border")  # type: ignore[no-untyped-call]
    ncc = LocalNormalizedCrossCorrelationLoss(kernel_size=9)
    smoothness, dice = DiffusionLoss(), DiceLoss(include_background=False)

    def losses(batch: Batch, disp: Tensor) -> Tensor:
        labels = warp(one_hot(batch["moving_labels"], N_LABELS), disp)
        similarity = ncc(warp(batch["moving"], disp), batch["fixed"])
        overlap = dice(labels, one_hot(batch["fixed_labels"], N_LABELS))
        total: Tensor = similarity + smoothness(disp) + overlap
        return total

    return losses


def voxelmorph_losses() -> Losses:
    """Return the sum of voxelmorph's and neurite's losses."""
    neurite, voxelmorph = (import_module(name) for name in ("neurite", "voxelmorph"))
    warp, ncc = voxelmorph.nn.modules.SpatialTransformer(), neurite.nn.modules.NCC(window_size=9)
    gradient, dice = neurite.nn.modules.SpatialGradient("l2"), neurite.nn.modules.Dice()

    def losses(batch: Batch, disp: Tensor) -> Tensor:
        labels = warp(one_hot(batch["moving_labels"], N_LABELS)[:, 1:], disp)
        target = one_hot(batch["fixed_labels"], N_LABELS)[:, 1:]
        similarity = ncc(warp(batch["moving"], disp), batch["fixed"]).squeeze()
        total: Tensor = gradient(disp) - similarity - dice(target, labels).squeeze()
        return total

    return losses


def main() -> None:
    """Time every loop in every precision, and print a table with ratios to ours."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--size", default="small", help="small or full")
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--root", type=Path, help="folder of the phantoms; else they are deleted")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--precisions", nargs="+", default=["float32"])
    parser.add_argument("--device", default="auto")
    options, overrides = parser.parse_known_args()
    configure_malloc()
    device = select_device(options.device)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        root = options.root or Path(folder) / "phantoms"
        if not root.is_dir():
            make_phantom("oasis", root, n_pairs=options.pairs, size=options.size, seed=0)
        for precision in options.precisions:
            given = ["task=phantom", "task.flavour=oasis", f"task.pairs={options.pairs}",
                     f"task.size={options.size}", f"+task.root={root}", f"data.cache={folder}/c",
                     "model.grid=full", *NO_AUGMENT, *LOSS, f"trainer.precision={precision}",
                     f"trainer.max_steps={options.steps}", "trainer.checkpoint_every=1000000",
                     f"device={device}", "overwrite=true"]  # fmt: skip
            config = composed("unet", Path(folder) / "run", [*given, *overrides])
            loops: dict[str, Callable[[], Speed]] = {"l2reg": partial(ours, config)}
            losses: dict[str, Callable[[], Losses]] = {"MONAI": monai_losses}
            if _installed("voxelmorph"):
                losses["voxelmorph"] = voxelmorph_losses
            for name, made in losses.items():
                loops[name] = partial(plain_loop, config, made, device)
            base = 0.0
            for name, loop in loops.items():
                configure_convolutions(precision, repeated=True)
                speed = _alone(loop)
                base = base or speed.seconds
                rows.append(
                    f"| {name} | {precision} | {speed.seconds:.3f} | {speed.seconds / base:.2f} | "
                    f"{100 * speed.waiting:.1f} | {speed.gib:.2f} |"
                )
                print(rows[-1], flush=True)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"\n{where}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}, MONAI "
          f"{version('monai')}, voxelmorph {_installed('voxelmorph') or 'not installed'}; "
          f"{options.size} phantom brains, {options.steps} steps")  # fmt: skip
    titles = ["loop", "precision", "s/step", "ratio", "waiting for data %", "GPU GiB"]
    print(table(titles, rows))


def _alone(loop: Callable[[], Speed]) -> Speed:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    return loop()


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _peak_gib() -> float:
    """Return the peak memory of the GPU; NaN on a CPU, where the loops share a process."""
    return torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else math.nan


if __name__ == "__main__":
    main()
