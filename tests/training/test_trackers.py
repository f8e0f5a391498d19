"""Recording stand-ins take the places of both packages: nothing is sent, and none is needed."""

import json
import os
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from l2reg.problems import InputError
from l2reg.training.setup import prepare_training
from l2reg.training.trackers import check_trackers, open_trackers

Composed = Callable[..., dict[str, Any]]
Calls = list[tuple[Any, ...]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """What both packages were asked for."""
    found: Calls = []
    for name in ("MLFLOW_EXPERIMENT_NAME", "MLFLOW_DISABLE_TELEMETRY", "MLFLOW_TRACKING_URI",
                 "WANDB_PROJECT", "WANDB_MODE", "WANDB_ERROR_REPORTING"):  # fmt: skip
        monkeypatch.setenv(name, "")  # to restore what a tracker sets
        monkeypatch.delenv(name)

    def start_run(run_id: str | None, run_name: str | None) -> SimpleNamespace:
        found.append(("start", run_id, run_name))
        return SimpleNamespace(info=SimpleNamespace(run_id=run_id or "new"))

    def init(**options: Any) -> SimpleNamespace:
        found.append(("init", options))
        return SimpleNamespace(
            id=options["id"] or "fresh",
            log=lambda scalars, step: found.append(("log", step, scalars)),
            finish=lambda exit_code: found.append(("finish", exit_code)),
        )

    mlflow = SimpleNamespace(
        is_tracking_uri_set=lambda: "MLFLOW_TRACKING_URI" in os.environ,
        set_tracking_uri=lambda uri: found.append(("store", uri)),
        set_experiment=lambda name: found.append(("experiment", name)),
        start_run=start_run,
        log_params=lambda settings: found.append(("params", settings)),
        log_metrics=lambda scalars, step, synchronous: found.append(("metrics", step, scalars)),
        flush_async_logging=lambda: found.append(("flush",)),
        end_run=lambda status: found.append(("end", status)),
    )
    for name, content in (("mlflow", mlflow), ("wandb", SimpleNamespace(init=init))):
        module = ModuleType(name)
        module.__dict__.update(vars(content), __spec__=ModuleSpec(name, None))
        monkeypatch.setitem(sys.modules, name, module)
    return found


def test_a_run_and_its_continuation_are_one_run_of_mlflow(calls: Calls, tmp_path: Path) -> None:
    settings = {"model": {"grid": "half"}, **{f"key{n}": "x" * 999 for n in range(150)}}
    for step in (1, 2):
        (tracker,) = open_trackers(["mlflow"], tmp_path / "run", settings)
        tracker.add(step, {"train/loss": 0.5})
        tracker.close()
        assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    params = [call[1] for call in calls if call[0] == "params"]
    assert [len(part) for part in params] == [100, 51]
    assert params[0]["model.grid"] == "half"
    assert len(params[1]["key149"]) == 500
    store = ("store", f"sqlite:///{tmp_path}/mlflow.db")
    assert [call for call in calls if call[0] != "params"] == [
        store, ("experiment", "l2reg"), ("start", None, "run"),
        ("metrics", 1, {"train/loss": 0.5}), ("flush",), ("end", "FINISHED"),
        store, ("start", "new", None),
        ("metrics", 2, {"train/loss": 0.5}), ("flush",), ("end", "FINISHED"),
    ]  # fmt: skip


def test_the_store_and_the_experiment_that_the_user_names_are_kept(
    calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:5000")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "brains")
    open_trackers(["mlflow"], tmp_path / "run", {})
    assert calls == [("start", None, "run")]


def test_a_tracker_that_is_added_later_leaves_the_run_of_the_other(
    calls: Calls, tmp_path: Path
) -> None:
    for names in (["mlflow"], ["wandb"]):
        open_trackers(names, tmp_path / "run", {})
    ids = json.loads((tmp_path / "run/trackers.json").read_text())
    assert ids == {"mlflow": "new", "wandb": "fresh"}


def test_wandb_is_offline_unless_the_user_says_otherwise(
    calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = []
    for environment in ({}, {"WANDB_MODE": "online", "WANDB_PROJECT": "brains"}):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        (tracker,) = open_trackers(["wandb"], tmp_path / "run", {"seed": 1})
        tracker.add(3, {"val/dsc": 0.7})
        tracker.close()
        options.append(calls[0][1])
        assert calls[1:] == [("log", 3, {"val/dsc": 0.7}), ("finish", 0)]
        calls.clear()
    assert os.environ["WANDB_ERROR_REPORTING"] == "false"
    assert [each["mode"] for each in options] == ["offline", "online"]
    assert [each["project"] for each in options] == ["l2reg", "brains"]
    assert [each["id"] for each in options] == [None, "fresh"]
    assert all(each["resume"] == "allow" for each in options)
    assert all(each["config"] == {"seed": 1} for each in options)
    assert all(each["dir"] == str(tmp_path / "run") for each in options)


def test_a_run_that_fails_is_told_as_failed(calls: Calls, tmp_path: Path) -> None:
    trackers = open_trackers(["mlflow", "wandb"], tmp_path / "run", {})
    with pytest.raises(RuntimeError, match="lost"):
        try:
            raise RuntimeError("lost")
        finally:
            for tracker in trackers:
                tracker.close()
    assert calls[-2:] == [("end", "FAILED"), ("finish", 1)]


def test_a_training_run_sends_what_it_logs(calls: Calls, tiny_run: Composed) -> None:
    prepare_training(tiny_run("track=[mlflow,wandb]")).run()
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    expected = [(line.pop("step"), line) for line in lines]
    assert [call[1:] for call in calls if call[0] == "metrics"] == expected
    assert [call[1:] for call in calls if call[0] == "log"] == expected
    assert calls[-2:] == [("end", "FINISHED"), ("finish", 0)]
    assert json.loads(Path("run/trackers.json").read_text()) == {"mlflow": "new", "wandb": "fresh"}
    prepare_training(tiny_run("resume=true"))  # without trackers, which may change
    assert [call[0] for call in calls].count("start") == 1


@pytest.mark.parametrize("track", ["[mlflow]", "mlflow", "[wandb]"])
def test_a_package_that_is_missing_is_told_before_the_run_starts(
    track: str, tiny_run: Composed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("l2reg.training.trackers.find_spec", lambda _: None)
    name = track.strip("[]")
    with pytest.raises(InputError, match=rf"pip install 'l2reg\[{name}\]'"):
        prepare_training(tiny_run(f"track={track}"))
    assert not Path("run").exists()


@pytest.mark.parametrize("track", [["mlfow"], [None], None, [{"mlflow": 1}]])
def test_a_tracker_that_is_not_known_is_refused(track: Any) -> None:
    with pytest.raises(InputError, match="is no experiment tracker"):
        check_trackers(track)


def test_no_tracker_is_the_default(tiny_run: Composed) -> None:
    assert check_trackers(tiny_run()["track"]) == []
