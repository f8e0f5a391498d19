"""Profile of training steps: the dearest operators, and a trace."""

from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile
from tqdm import tqdm

from l2reg.training.scalars import Scalars
from l2reg.training.trainer import Trainer
from l2reg.wording import quantity

TRACE = "trace.json.gz"

_WARM_UP = 2  # steps, in which libraries choose algorithms and allocate memory
_N_SHOWN = 15  # operators


class Profile:
    """Profiles some steps, prints the operators that take longest, and writes a trace.

    Args:
        run_dir: Folder of the run, which gets ``trace.json.gz``.
        steps: Number of steps to profile.
        device: Device of the network, whose time is told.
    """

    def __init__(self, run_dir: Path, steps: int, device: torch.device) -> None:
        self.run_dir = run_dir
        self.steps = steps
        self.device = device
        self.seen = 0
        self.profiler: profile | None = None

    def __call__(self, trainer: Trainer, scalars: Scalars) -> None:
        """Start before the first step to profile, and stop after the last one."""
        del trainer, scalars
        self.seen += 1
        if self.seen == _WARM_UP:
            gpu = [ProfilerActivity.CUDA] if self.device.type == "cuda" else []
            self.profiler = profile(activities=[ProfilerActivity.CPU, *gpu])
            self.profiler.start()
        elif self.profiler is not None and self.seen == _WARM_UP + self.steps:
            self.profiler.stop()
            self._report(self.profiler)
            self.profiler = None

    def close(self) -> None:
        """Stop a profile that is not complete, and say so; nothing of it is written."""
        if self.profiler is not None:
            self.profiler.stop()
        if self.seen < _WARM_UP + self.steps:
            tqdm.write(
                f"no profile: it takes {_WARM_UP + self.steps} steps, and this run took {self.seen}"
            )

    def _report(self, profiler: profile) -> None:
        order = "self_device_time_total" if self.device.type == "cuda" else "self_cpu_time_total"
        table = profiler.key_averages().table(sort_by=order, row_limit=_N_SHOWN)
        tqdm.write(f"the {_N_SHOWN} dearest operators of {quantity(self.steps, 'step')}:\n{table}")
        profiler.export_chrome_trace(str(self.run_dir / TRACE))
        tqdm.write(
            f"trace: {self.run_dir / TRACE} (open it at chrome://tracing or ui.perfetto.dev)"
        )
