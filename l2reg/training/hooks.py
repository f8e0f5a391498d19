"""What happens beside the training: progress, logs, validation, pictures, checkpoints."""

import json
import math
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from l2reg.checkpoints import storage
from l2reg.training.run_folder import METRICS
from l2reg.training.trainer import Scalars, Trainer

LINES_PER_RUN = 20  # when nobody watches a progress bar


class Progress:
    """A bar with losses and time left on a terminal, else a line now and then."""

    def __init__(self, trainer: Trainer) -> None:
        steps = trainer.settings.max_steps
        self.bar = tqdm(total=steps, initial=trainer.step, desc="training", disable=None)
        self.line_every = max(1, steps // LINES_PER_RUN)
        self.started_at, self.first_step = time.monotonic(), trainer.step

    def __call__(self, trainer: Trainer, scalars: Scalars) -> None:
        """Show the losses of this step."""
        losses = {name: value for name, value in scalars.items() if name != "lr"}
        self.bar.set_postfix(
            {name: f"{value:.4g}" for name, value in losses.items()}, refresh=False
        )
        self.bar.update()
        if self.bar.disable and trainer.step % self.line_every == 0:
            elapsed = time.monotonic() - self.started_at
            pace = elapsed / (trainer.step - self.first_step)
            left = pace * (trainer.settings.max_steps - trainer.step)
            values = "  ".join(f"{name} {value:.4g}" for name, value in losses.items())
            steps = f"step {trainer.step}/{trainer.settings.max_steps}"
            tqdm.write(f"{steps}  {values}  {pace:.2f} s/step, {left / 60:.1f} min left")

    def close(self) -> None:
        """Leave the bar where it is."""
        self.bar.close()


class Log:
    """Appends every step's scalars to ``metrics.jsonl`` and TensorBoard."""

    def __init__(self, run_dir: Path, trainer: Trainer) -> None:
        self.run_dir = run_dir
        self.first_step = trainer.step + 1

    @cached_property
    def writer(self) -> SummaryWriter:
        """TensorBoard's, opened on first use; forgets steps that are taken again."""
        return SummaryWriter(self.run_dir / "tensorboard", purge_step=self.first_step)

    def __call__(self, trainer: Trainer, scalars: Scalars) -> None:
        """Log the scalars of this step."""
        self.add(trainer.step, {f"train/{name}": value for name, value in scalars.items()})

    def add(self, step: int, scalars: Scalars) -> None:
        """Log scalars under their own names."""
        with (self.run_dir / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **scalars}) + "\n")
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is buffered."""
        self.writer.close()


class Validate:
    """Scores the validation pairs now and then, and keeps the best model.

    Args:
        score: Returns ``val/<metric>`` means and the number to be made large.
        save_best: Called with the step's scores when that number is the best so far.
        log: Where the scores go.
        every: Steps between two validations; the last step validates always.
    """

    def __init__(
        self,
        score: Callable[[], tuple[dict[str, float], float]],
        save_best: Callable[[Trainer, Mapping[str, float]], None],
        log: Log,
        every: int,
    ) -> None:
        self.score = score
        self.save_best = save_best
        self.log = log
        self.every = every

    def __call__(self, trainer: Trainer, scalars: Scalars) -> None:
        """Validate if it is time."""
        del scalars
        if trainer.step % self.every and not trainer.finished:
            return
        scores, quality = self.score()
        self.log.add(trainer.step, scores)
        better = not math.isnan(quality) and (trainer.best is None or quality > trainer.best)
        shown = "  ".join(f"{name} {value:.4f}" for name, value in scores.items())
        tqdm.write(f"step {trainer.step}  {shown}{'  (best so far)' if better else ''}")
        if better:
            trainer.best = quality
            self.save_best(trainer, scores)

    def close(self) -> None:
        """Nothing to finish."""


class Picture:
    """Draws the first validation pair into TensorBoard now and then."""

    def __init__(self, draw: Callable[[], Any], log: Log, every: int) -> None:
        self.draw = draw
        self.log = log
        self.every = every

    def __call__(self, trainer: Trainer, scalars: Scalars) -> None:
        """Draw if it is time."""
        del scalars
        if trainer.step % self.every == 0 or trainer.finished:
            self.log.writer.add_figure("validation pair", self.draw(), trainer.step)

    def close(self) -> None:
        """Nothing to finish."""


class SaveLast:
    """Writes ``last.pt`` now and then, and when training ends or is asked to stop.

    Args:
        run_dir: Where to.
        extra: What a checkpoint needs beside the trainer's state: config, training data.
    """

    def __init__(self, run_dir: Path, extra: Mapping[str, Any]) -> None:
        self.path = run_dir / storage.LAST
        self.extra = extra

    def __call__(self, trainer: Trainer, scalars: Scalars) -> None:
        """Save if it is time."""
        del scalars
        due = trainer.step % trainer.settings.checkpoint_every == 0
        if due or trainer.finished or trainer.stop_requested:
            self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        """Save now."""
        storage.save(self.path, {**trainer.state_dict(), **self.extra})

    def close(self) -> None:
        """Nothing to finish: a state after an error is not worth keeping."""
