r"""Time a training step of a model on random images, and the memory it takes.

python -m benchmarks.methods.bench_train task=oasis model=unet trainer.precision=bf16 \
    trainer.max_steps=20

Takes the options of ``train.py``. The images have the task's working grid; reading and augmenting
data is not timed. The first quarter of the steps warms up and does not count.
"""

import resource
import statistics
import time
from pathlib import Path
from typing import Any, cast

import hydra
import torch
from omegaconf import DictConfig, OmegaConf

from l2reg.batch import Batch
from l2reg.config.build import build
from l2reg.data.task import Task
from l2reg.models.activation_checkpointing import recompute_activations
from l2reg.models.compilation import compile_network
from l2reg.models.prediction import grid_of
from l2reg.runtime import configure_convolutions, configure_malloc, select_device
from l2reg.shapes import working_shape
from l2reg.training.scalars import Scalars
from l2reg.training.trainer import Trainer

CONFIGS = str(Path(__file__).parents[2] / "configs")


class RandomBatches:
    """The same random pairs in every step."""

    def __init__(self, task: Task, model: torch.nn.Module, n_pairs: int, device: torch.device):
        shape = working_shape(task.shape, grid_of(model))
        self.shape = shape
        stream = torch.Generator().manual_seed(0)
        names = list(task.labels) or [0]
        labels = torch.tensor(names)[
            torch.randint(len(names), (2, n_pairs, 1, *shape), generator=stream)
        ]
        images = torch.rand(2, n_pairs, 1, *shape, generator=stream)
        batch = {
            "fixed": images[0],
            "moving": images[1],
            "fixed_mask": torch.ones_like(images[0]),
            "moving_mask": torch.ones_like(images[1]),
            "fixed_labels": labels[0].to(torch.int16),
            "moving_labels": labels[1].to(torch.int16),
            "label_weight": torch.full((n_pairs,), float(bool(task.labels))),
            "fixed_points": torch.zeros(n_pairs, 0, 3),
            "moving_points": torch.zeros(n_pairs, 0, 3),
            "point_weights": torch.zeros(n_pairs, 0),
            "spacing_mm": torch.tensor(task.spacing_mm).expand(n_pairs, 3) * 2,
        }
        self.batch = cast(Batch, {name: tensor.to(device) for name, tensor in batch.items()})

    def __getitem__(self, step: int) -> Batch:
        """Return the batch, whatever the step."""
        return self.batch


class Clock:
    """A hook that notes when each step ended."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.ends: list[float] = []

    def __call__(self, trainer: Trainer, scalars: Scalars) -> None:
        """Note the time once the device is done."""
        del trainer, scalars
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.ends.append(time.perf_counter())

    def close(self) -> None:
        """Nothing to finish."""


@hydra.main(version_base="1.3", config_path=CONFIGS, config_name="train")
def main(cfg: DictConfig) -> None:
    """Train on random images, and print median seconds a step, pairs a second and peak memory."""
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    configure_malloc()
    device = select_device(config["device"])
    task: Task = build(config["task"])
    torch.manual_seed(config["seed"])
    model: torch.nn.Module = build(config["model"]).to(device)
    settings = build(config["trainer"])
    configure_convolutions(settings.precision, repeated=True)
    if settings.activation_checkpointing:
        recompute_activations(model)
    if settings.compile:
        compile_network(model)
    n_pairs = settings.batch_size * settings.accumulate
    batches = RandomBatches(task, model, n_pairs, device)
    trainer = Trainer(
        model,
        build(config["loss"]),
        build(config["optimizer"], params=model.parameters()),
        build(config["scheduler"]),
        batches,
        settings,
    )
    clock = Clock(device)
    trainer.hooks = [clock]
    trainer.run()
    steps = [after - before for before, after in zip(clock.ends, clock.ends[1:], strict=False)]
    seconds = statistics.median(steps[len(steps) // 4 :])
    n_parameters = sum(p.numel() for p in model.parameters())
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{config['model']['_target_']}: {n_parameters} parameters, grid {batches.shape}")
    print(f"{where}, {torch.get_num_threads()} threads, {settings.precision}")
    print(f"{seconds:.3f} s a step of {n_pairs} pairs")
    print(f"{n_pairs / seconds:.2f} pairs/s, peak {_peak_gib(device):.2f} GiB")


def _peak_gib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
