"""Train for a number of minutes: measure a few steps, then choose ``trainer.max_steps`` to fit.

    python -m tools.train_for 8 experiment=descriptors run_dir=RUN ...

The learning rate falls over exactly the steps that fit. If they do not, the run is stopped in time,
and ``resume=true`` continues it.
"""

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

TRIAL_STEPS = 40  # the first quarter is not measured: buffers and algorithms are being chosen
RESERVE = 0.06  # share of the time that is kept back
_POLL = 0.05  # seconds
_STOPPED = 128 + signal.SIGTERM  # exit status of l2reg train


@dataclass(frozen=True)
class Pace:
    """What a trial took, in seconds.

    Attributes:
        start: From the start of the process to its first step.
        step: One step.
        validation: The last validation and checkpoint, to the end of the process.
    """

    start: float
    step: float
    validation: float

    def steps_in(self, seconds: float, validate_every: int) -> int:
        """Return the number of steps of a process that may take some seconds."""
        usable = (1 - RESERVE) * seconds - self.start - self.validation
        validation = self.validation / validate_every if validate_every else 0.0
        return max(1, int(usable / (self.step + validation)))


def measure(command: Sequence[str], metrics: Path) -> Pace:
    """Run a trial of ``TRIAL_STEPS`` steps, and return what it took.

    Raises:
        subprocess.CalledProcessError: If it fails.
    """
    started = time.monotonic()
    reached: dict[int, float] = {}
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            text = metrics.read_text(encoding="utf-8") if metrics.exists() else ""
            reached.setdefault(text.count('"train/loss"'), time.monotonic())
            time.sleep(_POLL)
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, list(command))
    seen = sorted(n for n in reached if n > 0)
    first = next(n for n in seen if n >= min(TRIAL_STEPS // 4, seen[-1]))
    steps = max(1, seen[-1] - first)
    return Pace(
        reached[seen[0]] - started,
        (reached[seen[-1]] - reached[first]) / steps,
        time.monotonic() - reached[seen[-1]],
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, and end with the status of l2reg train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("minutes", type=float, help="time from start to end")
    parser.add_argument("overrides", nargs="+", help="keys of l2reg train, with run_dir=")
    options = parser.parse_args(arguments)
    folders = [key.partition("=")[2] for key in options.overrides if key.startswith("run_dir=")]
    if not folders or options.minutes <= 0:
        parser.error("minutes above 0 and run_dir=NAME are needed")
    deadline = time.monotonic() + 60 * options.minutes
    command = [sys.executable, str(Path(__file__).parents[1] / "train.py"), *options.overrides]
    run = Path(folders[-1])
    try:
        pace = measure([*command, f"trainer.max_steps={TRIAL_STEPS}"], run / "metrics.jsonl")
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    left = deadline - time.monotonic()
    if left <= pace.start:
        sys.exit(
            f"error: minutes={options.minutes:g}: the trial of {TRIAL_STEPS} steps left no time"
        )
    steps = TRIAL_STEPS + pace.steps_in(left, config["trainer"]["validate_every"])
    print(f"{pace.step:.3f} s/step: {steps} steps in {left:.0f} s", flush=True)
    again = [word for word in command if not word.startswith("overwrite=")]
    with subprocess.Popen([*again, "resume=true", f"trainer.max_steps={steps}"]) as process:
        try:
            process.wait(deadline - time.monotonic())
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
    sys.exit(0 if process.returncode == _STOPPED else process.returncode)


if __name__ == "__main__":
    main()
