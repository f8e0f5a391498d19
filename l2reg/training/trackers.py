"""Experiment trackers: MLflow and Weights & Biases get the settings and scalars of a run.

None is used unless ``track=`` names it. Each keeps one run per run folder, whose id the file
``trackers.json`` of that folder remembers, so that a resumed run goes on there. Nothing leaves the
machine unless the user says so by the variables of these packages: ``MLFLOW_TRACKING_URI``, and
``WANDB_MODE=online``. What both packages report to their makers by default is switched off.
"""

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from l2reg.io.files import atomic_write, load_json, strict_json
from l2reg.problems import Problem, raise_if_any, suggest
from l2reg.training.run_files import flatten
from l2reg.training.scalars import Scalars

RUN_IDS = "trackers.json"

_MAX_PARAMETER = 500  # characters of a setting, the limit of MLflow's file store
_BATCH = 100  # settings that MLflow takes at once


@runtime_checkable
class Tracker(Protocol):
    """Takes the scalars of a run under their names, and the run's end."""

    run_id: str

    def add(self, step: int, scalars: Scalars) -> None:
        """Send scalars of a step."""

    def close(self) -> None:
        """Send what is left; the run failed if an exception is on its way."""


class MLflow:
    """Run of MLflow, in the store that ``MLFLOW_TRACKING_URI`` names, else in one beside the run.

    That is the file ``mlflow.db`` in the parent of the run's folder.

    Args:
        run_dir: Folder of the run, whose name is that of the run.
        config: Config of the run.
        run_id: Run to continue; ``None`` for a new one.
    """

    def __init__(self, run_dir: Path, config: Mapping[str, Any], run_id: str | None) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        self.mlflow: Any = importlib.import_module("mlflow")
        if not self.mlflow.is_tracking_uri_set():
            self.mlflow.set_tracking_uri(f"sqlite:///{run_dir.absolute().parent / 'mlflow.db'}")
        if run_id is None and "MLFLOW_EXPERIMENT_NAME" not in os.environ:
            self.mlflow.set_experiment("l2reg")
        run = self.mlflow.start_run(run_id=run_id, run_name=None if run_id else run_dir.name)
        self.run_id = str(run.info.run_id)
        if run_id is None:
            settings = [(key, str(value)[:_MAX_PARAMETER]) for key, value in flatten(config)]
            for first in range(0, len(settings), _BATCH):
                self.mlflow.log_params(dict(settings[first : first + _BATCH]))

    def add(self, step: int, scalars: Scalars) -> None:
        """Send scalars of a step, beside the training."""
        self.mlflow.log_metrics(dict(scalars), step=step, synchronous=False)

    def close(self) -> None:
        """End the run as finished or failed."""
        self.mlflow.flush_async_logging()
        self.mlflow.end_run("FINISHED" if sys.exception() is None else "FAILED")


class WandB:
    """Run of Weights & Biases, offline in the run's folder unless ``WANDB_MODE`` says otherwise.

    Args:
        run_dir: Folder of the run, whose name is that of the run.
        config: Config of the run.
        run_id: Run to continue; ``None`` for a new one.
    """

    def __init__(self, run_dir: Path, config: Mapping[str, Any], run_id: str | None) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        wandb: Any = importlib.import_module("wandb")
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "l2reg"),
            name=run_dir.name,
            dir=str(run_dir),
            config=dict(config),
            id=run_id,
            resume="allow",
            mode=os.environ.get("WANDB_MODE", "offline"),
        )
        self.run_id = str(self.run.id)

    def add(self, step: int, scalars: Scalars) -> None:
        """Send scalars of a step."""
        self.run.log(dict(scalars), step=step)

    def close(self) -> None:
        """End the run as finished or failed."""
        self.run.finish(exit_code=int(sys.exception() is not None))


TRACKERS: Mapping[str, type[MLflow] | type[WandB]] = {"mlflow": MLflow, "wandb": WandB}


def check_trackers(names: object) -> list[str]:
    """Return the trackers that a config names, before anything is written.

    Raises:
        InputError: If there is none of that name, or if its package is not installed.
    """
    listed = [str(name) for name in names] if isinstance(names, list) else [str(names)]
    raise_if_any(_problem(name) for name in listed if name not in TRACKERS or not find_spec(name))
    return listed


def open_trackers(
    names: Sequence[str], run_dir: Path, config: Mapping[str, Any]
) -> tuple[Tracker, ...]:
    """Start a run of every tracker, or continue that of the run folder.

    Args:
        names: Keys of ``TRACKERS``.
        run_dir: Folder of the run.
        config: Config of the run.
    """
    path = run_dir / RUN_IDS
    run_ids = load_json(path) if path.is_file() else {}
    trackers = tuple(TRACKERS[name](run_dir, config, run_ids.get(name)) for name in names)
    if trackers:
        run_ids |= {name: each.run_id for name, each in zip(names, trackers, strict=True)}
        with atomic_write(path) as temporary:
            temporary.write_text(strict_json(run_ids), encoding="utf-8")
    return trackers


def _problem(name: str) -> Problem:
    if name not in TRACKERS:
        return Problem(
            where=f"track={name}",
            what="is no experiment tracker",
            expected=f"[] or a list of {', '.join(TRACKERS)}",
            found=repr(name),
            remedy=suggest(name, TRACKERS),
        )
    return Problem(
        where=f"track=[{name}]",
        what="needs a package that is not installed",
        expected=name,
        found="no such package",
        remedy=f"pip install 'l2reg[{name}]', or leave it out",
    )
