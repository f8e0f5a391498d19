"""Hooks of the trainer: progress, logs, validation, pictures and checkpoints."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams
from tqdm import tqdm

from l2reg.checkpoints.run_checkpoints import save_last
from l2reg.io.files import raise_if_disk_is_at_fault, strict_json
from l2reg.training.distributed import is_first
from l2reg.training.run_files import METRICS, flatten
from l2reg.training.scalars import Scalars
from l2reg.training.trackers import Tracker
from l2reg.training.trainer import Trainer

_SELECTING = ("val/dsc", "val/tre_mm", "val/loss")  # scores that select a model
LINES_PER_RUN = 20  # of progress, where the output is no terminal


class Progress:
    """Shows the losses and the remaining time: a bar on a terminal, else 20 lines a run."""

    def __init__(self, trainer: Trainer) -> None:
        steps = trainer.settings.max_steps
        self.bar = tqdm(total=steps, initial=trainer.step, desc="training", disable=None)
        self.line_every = max(1, steps // LINES_PER_RUN)
        self.started_at, self.first_step = time.monotonic(), trainer.step

    def __call__(self, trainer: Trainer, scalars: Scalars) -> None:
        """Show the losses of this step."""
        hidden = ("lr", "weight/")
        losses = {name: v for name, v in scalars.items() if not name.startswith(hidden)}
        self.bar.set_postfix(
            {name: f"{value:.4g}" for name, value in losses.items()}, refresh=False
        )
        self.bar.update()
        if self.bar.disable and trainer.step % self.line_every == 0:
            elapsed = time.monotonic() - self.started_at
            seconds_per_step = elapsed / (trainer.step - self.first_step)
            left = seconds_per_step * (trainer.settings.max_steps - trainer.step)
            values = "  ".join(f"{name} {value:.4g}" for name, value in losses.items())
            steps = f"step {trainer.step}/{trainer.settings.max_steps}"
            tqdm.write(
                f"{steps}  {values}  {seconds_per_step:.2f} s/step, {left / 60:.1f} min left"
            )

    def close(self) -> None:
        """Close the bar at its present position."""
        self.bar.close()


class Log:
    """Appends the scalars of every step to ``metrics.jsonl``, TensorBoard and other trackers.

    Args:
        run_dir: Folder of the run.
        trainer: The trainer, at the step at which it starts.
        config: Config of the run, which TensorBoard shows beside the scores.
        trackers: Experiment trackers, which it closes.
    """

    def __init__(
        self,
        run_dir: Path,
        trainer: Trainer,
        config: Mapping[str, Any],
        trackers: Sequence[Tracker] = (),
    ) -> None:
        self.run_dir = run_dir
        self.trackers = trackers
        self.first_step = trainer.step + 1
        self.config = config

    @cached_property
    def writer(self) -> SummaryWriter:
        """TensorBoard writer, opened at first use; drops the steps that a resumed run repeats."""
        writer = SummaryWriter(self.run_dir / "tensorboard", purge_step=self.first_step)
        settings = {key: _plain(value) for key, value in flatten(self.config)}
        summaries = hparams(settings, dict.fromkeys(_SELECTING))  # type: ignore[no-untyped-call]
        file = writer._get_file_writer()  # type: ignore[no-untyped-call]
        for summary in summaries:  # add_hparams would write them as those of another run
            file.add_summary(summary)
        return writer

    def __call__(self, trainer: Trainer, scalars: Scalars) -> None:
        """Log the scalars of this step."""
        self.add(trainer.step, {f"train/{name}": value for name, value in scalars.items()})

    def add(self, step: int, scalars: Scalars) -> None:
        """Log scalars under the names given.

        Raises:
            InputError: If there is no space left on the disk.
        """
        metrics = self.run_dir / METRICS
        try:
            with metrics.open("a", encoding="utf-8") as file:
                file.write(strict_json({"step": step, **scalars}) + "\n")
        except OSError as error:
            raise_if_disk_is_at_fault(error, metrics)
            raise
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, step)
        for tracker in self.trackers:
            tracker.add(step, scalars)

    def close(self) -> None:
        """Write buffered values to disk, and send them."""
        self.writer.close()
        for tracker in self.trackers:
            tracker.close()


class Validate:
    """Scores the validation pairs at intervals, and saves the best model in the first rank.

    Args:
        score: Function that returns the means, of which ``val/<metric>`` are printed, and the
            quality, which is larger for a better model or not a number.
        save_best: Function that is called with the scores when the quality is the best so far.
        log: The log that the scores are written to.
        every: Number of steps between two validations; the last step always validates.
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
        """Validate if this step is due."""
        del scalars
        if trainer.step % self.every and not trainer.finished:
            return
        scores, quality = self.score()
        better = not math.isnan(quality) and (trainer.best is None or quality > trainer.best)
        if better:
            trainer.best = quality
        trainer.stale_validations = 0 if better else trainer.stale_validations + 1
        if not is_first():
            return
        self.log.add(trainer.step, scores)
        means = {name: value for name, value in scores.items() if name.startswith("val/")}
        values = "  ".join(f"{name} {value:.4f}" for name, value in means.items())
        tqdm.write(f"step {trainer.step}  {values}{'  (best so far)' if better else ''}")
        if better:
            self.save_best(trainer, scores)
        elif trainer.finished and trainer.step < trainer.settings.max_steps:
            n = trainer.stale_validations
            tqdm.write(f"stopping: none of the last {n} validations was better than the best")

    def close(self) -> None:
        """Do nothing: no resource is held."""


class Picture:
    """Draws the first validation pair into TensorBoard at intervals.

    Args:
        draw: Function that returns the figure.
        log: The log whose TensorBoard shows the figure.
        every: Number of steps between two figures; the last step always draws.
    """

    def __init__(self, draw: Callable[[], Any], log: Log, every: int) -> None:
        self.draw = draw
        self.log = log
        self.every = every

    def __call__(self, trainer: Trainer, scalars: Scalars) -> None:
        """Draw if this step is due."""
        del scalars
        if trainer.step % self.every == 0 or trainer.finished:
            self.log.writer.add_figure("validation pair", self.draw(), trainer.step)

    def close(self) -> None:
        """Do nothing: no resource is held."""


class SaveLast:
    """Writes ``last.pt`` at intervals and when training ends; the trainer does if asked to stop.

    Args:
        run_dir: Folder of the run.
        extra: Entries of the checkpoint beside the trainer's state: config, training images.
        saved_step: Step of the ``last.pt`` that is there; ``None`` for a new run.
    """

    def __init__(self, run_dir: Path, extra: Mapping[str, Any], saved_step: int | None) -> None:
        self.run_dir = run_dir
        self.extra = extra
        self.saved_step = saved_step

    def __call__(self, trainer: Trainer, scalars: Scalars) -> None:
        """Save if this step is due."""
        del scalars
        due = trainer.step % trainer.settings.checkpoint_every == 0
        if due or trainer.finished:
            self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        """Save the state of the trainer, to which all ranks contribute."""
        state = {**trainer.state_dict(), **self.extra}
        if is_first():
            save_last(self.run_dir, state, self.saved_step, trainer.settings.keep)
            self.saved_step = trainer.step

    def close(self) -> None:
        """Do nothing: the state after an error is not saved."""


def _plain(value: object) -> object:
    """Return a value of a config as TensorBoard takes it: a number or text."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number or isinstance(value, str) else strict_json(value)
