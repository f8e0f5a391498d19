"""Table of the runs in a folder, best first; nothing of it needs PyTorch."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l2reg.config.yaml_files import load_yaml
from l2reg.io.files import files_below
from l2reg.io.output_folders import OutputKind, is_held
from l2reg.io.text_columns import align_columns
from l2reg.problems import InputError, Problem
from l2reg.training.run_files import CONFIG, METRICS, flatten, step_of

_SIGNS = {"dsc": 1, "tre_mm": -1, "loss": -1}  # of the metrics that select a model; + means more
_OF_THE_COMMAND = {"run_dir", "resume", "overwrite"}


@dataclass(frozen=True)
class Run:
    """What the files of a run folder say.

    Attributes:
        name: Its folder.
        settings: Values of its config, by dotted key.
        best: Best score of a validation and its step, by metric such as ``dsc`` or ``lung/tre_mm``.
        steps: Number of steps that are done.
        state: ``running``, ``finished``, ``stopped``, or what is wrong with its files.
    """

    name: str
    settings: Mapping[str, Any]
    best: Mapping[str, tuple[float, int]]
    steps: int
    state: str


def run_table(folder: Path) -> str:
    """Return a table of the runs in a folder and below: scores, steps, state, what they differ in.

    Runs are sorted by the first of Dice, TRE and loss that they have; better ones come first.

    Raises:
        InputError: If there are none.
    """
    marks = [path for path in files_below(folder) if path.name == OutputKind.RUN]
    runs = [_read_run(path.parent, folder) for path in marks if (path.parent / METRICS).is_file()]
    if not runs:
        raise InputError(_no_runs(folder))
    metrics = sorted({metric for run in runs for metric in run.best}, key=_rank_of_metric)
    runs.sort(key=lambda run: (*(_badness(run, metric) for metric in metrics), run.name))
    columns = [["run", *(f"best {metric} (step)" for metric in metrics), "steps", "state"]]
    for run in runs:
        scores = [_score(run.best[metric]) if metric in run.best else "-" for metric in metrics]
        of = run.settings.get("trainer.max_steps", "?")
        columns.append([run.name, *scores, f"{run.steps} of {of}", run.state])
    different = _differences([run.settings for run in runs])
    settings = ["settings that differ" if any(different) else "", *map("  ".join, different)]
    lines = align_columns(columns).splitlines()
    width = max(map(len, lines))
    return "\n".join(
        f"{line.ljust(width)}  {text}".rstrip() for line, text in zip(lines, settings, strict=True)
    )


def _read_run(path: Path, folder: Path) -> Run:
    name = str(path.relative_to(folder)) if path != folder else path.name
    try:
        config = load_yaml(path / CONFIG)
        settings = dict(flatten(config if isinstance(config, Mapping) else {}))
        problem = ""
    except (OSError, ValueError):
        settings, problem = {}, f"{CONFIG} is missing or damaged"
    lines = list(_metrics(path / METRICS))
    steps = max((int(line["step"]) for line in lines), default=0)
    validations = [line for line in lines if any(key.startswith("val/") for key in line)]
    max_steps, patience = (settings.get(f"trainer.{key}") for key in ("max_steps", "patience"))
    if is_held(path, OutputKind.RUN):
        state = "running"
    elif steps == max_steps or _lost_patience(validations, patience):
        state = "finished"
    else:
        state = "stopped"
    return Run(name, settings, _best_scores(validations), steps, problem or state)


def _metrics(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of the metrics that are whole."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if step_of(line) < float("inf"):
            yield json.loads(line)


def _best_scores(validations: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, int]]:
    best: dict[str, tuple[float, int]] = {}
    for line in validations:
        for key, value in line.items():
            metric = key.removeprefix("val/")
            sign = _SIGNS.get(metric.rpartition("/")[2])
            if metric == key or sign is None or not isinstance(value, int | float):
                continue
            if metric not in best or sign * value > sign * best[metric][0]:
                best[metric] = (float(value), int(line["step"]))
    return best


def _lost_patience(validations: Sequence[Mapping[str, Any]], patience: object) -> bool:
    """Return whether the last ``patience`` validations were not better than the best before."""
    best = _best_scores(validations)
    if not best or not isinstance(patience, int):
        return False
    _, step = best[min(best, key=_rank_of_metric)]
    return sum(int(line["step"]) > step for line in validations) >= patience


def _rank_of_metric(metric: str) -> tuple[int, str]:
    return list(_SIGNS).index(metric.rpartition("/")[2]), metric


def _badness(run: Run, metric: str) -> float:
    """Return a number that is smaller for a better run; infinity without a score."""
    if metric not in run.best:
        return float("inf")
    return -_SIGNS[metric.rpartition("/")[2]] * run.best[metric][0]


def _score(best: tuple[float, int]) -> str:
    return f"{best[0]:.4f} ({best[1]})"


def _differences(runs: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return for each run its values of the settings in which the runs differ.

    Of two classes only the names are compared: most of their arguments differ anyhow.
    """
    keys = list(dict.fromkeys(key for settings in runs for key in settings))
    different = [
        key
        for key in keys
        if key not in _OF_THE_COMMAND and len({repr(run.get(key)) for run in runs}) > 1
    ]
    classes = [key.removesuffix("_target_") for key in different if key.endswith("._target_")]
    shown = [
        key
        for key in different
        if key.endswith("._target_") or not any(key.startswith(c) for c in classes)
    ]
    return [[_setting(key, run[key]) for key in shown if key in run] for run in runs]


def _setting(key: str, value: object) -> str:
    if key.endswith("._target_"):
        return f"{key.removesuffix('._target_')}={str(value).rpartition('.')[2]}"
    return f"{key}={value}"


def _no_runs(folder: Path) -> Problem:
    return Problem(
        where=str(folder),
        what="has no training runs",
        expected="a folder with run folders of `l2reg train` in it",
        found="no such folder" if not folder.is_dir() else "no folder that `l2reg train` wrote",
        remedy="name the folder of your runs: l2reg runs runs",
    )
