"""The benchmarks and the example load, and the settings that they try exist."""

import importlib
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from l2reg.config.build import build

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted([*(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "examples").glob("*.py")])


@pytest.fixture(autouse=True)
def checkout_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_benchmark_loads_and_says_how_it_is_run(path: Path) -> None:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    module = importlib.import_module(name)
    assert module.__doc__
    if hasattr(module, "main"):
        told = f"python -m {name}", f"python {path.relative_to(ROOT)}", f"``{name}``", "make demo"
        assert any(words in module.__doc__ for words in told)


def test_the_features_that_are_tried_exist() -> None:
    tuning = importlib.import_module("benchmarks.studies.tune_convex")
    for node in tuning.FEATURES.values():
        assert callable(build(node))


def test_gpu_checks_say_what_failed_and_that_there_was_no_gpu() -> None:
    checks = importlib.import_module("benchmarks.methods.gpu_checks")
    cpu = torch.device("cpu")
    field = torch.zeros(1, 3, 4, 5, 6)
    found = [
        checks.run_tests(cpu),
        checks.compare_fields(field, field + 0.01),
        checks.compare_fields(field, field + 0.1),
        checks.compare_fields(field, field + 2.0 * (torch.arange(6) > 4)),
    ]
    assert [check.passed for check in found] == [None, True, False, False]
    page = checks.report(found, cpu, small=True, seconds=3.0)
    assert "- card: no GPU: this run checks the script alone" in page
    assert "| tests marked gpu | not run: no GPU | - |" in page
    assert "median 0.173, 95 % below 0.173 voxels | FAILED |" in page


def test_gpu_checks_fail_if_training_waits_for_data(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = importlib.import_module("benchmarks.methods.gpu_checks")
    waiting = {"unet": 0.02, "pyramid": 0.04}
    monkeypatch.setattr(checks, "composed", lambda network, *_: network)
    monkeypatch.setattr(
        checks, "ours", lambda name: SimpleNamespace(seconds=0.5, waiting=waiting[name], gib=1.0)
    )
    found = {
        kind: checks.check_training([], torch.device(kind), 4, Path("unused"))
        for kind in ("cuda", "cpu")
    }
    assert [check.passed for check in found["cuda"]] == 3 * [True] + 3 * [False]
    assert [check.passed for check in found["cpu"]] == 2 * [None]
    assert found["cuda"][0].found == "2.00 steps/s, 2.0 % waiting, 1.00 GiB"


def test_gpu_checks_time_copies_from_both_kinds_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = importlib.import_module("benchmarks.methods.gpu_checks")
    asked = []
    monkeypatch.setattr(checks, "to_device", lambda *_, pinned: asked.append(pinned))
    found = checks.check_copies(torch.device("cpu"), (3, 4, 5))
    assert asked == checks.COPIES * [True] + checks.COPIES * [False]
    assert [check.name.split()[-2] for check in found] == ["pinned", "other"]
    assert all(check.found.endswith(" ms") for check in found)


@pytest.mark.parametrize("status", [0, 1])
def test_gpu_checks_end_as_their_tests_do(
    status: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    checks = importlib.import_module("benchmarks.methods.gpu_checks")
    commands = []

    def run(command: list[str], **_: object) -> SimpleNamespace:
        commands.append(command)
        return SimpleNamespace(stdout="== 5 tests ==", stderr="", returncode=status)

    def expire(command: list[str], **_: object) -> None:
        raise subprocess.TimeoutExpired(command, 0)

    monkeypatch.setattr(checks.subprocess, "run", run)
    check = checks.run_tests(torch.device("cuda"))
    assert check == checks.Check("tests marked gpu", "5 tests", status == 0)
    monkeypatch.setattr(checks.subprocess, "run", expire)
    assert checks.run_tests(torch.device("cuda")).passed is False
    assert commands[0][-5:] == ["-q", "-m", "gpu", "-p", "no:cacheprovider"]
    out = tmp_path / "checks.md"
    monkeypatch.setattr(sys, "argv", ["gpu_checks", "--out", str(out), "--device", "cpu"])
    monkeypatch.setattr(checks, "run_tests", lambda _device: check)
    for name in ("make_phantom", "configure_malloc"):
        monkeypatch.setattr(checks, name, lambda *_, **__: None)
    for name in ("check_registration", "check_copies", "check_training"):
        monkeypatch.setattr(checks, name, lambda *_: [])
    with pytest.raises(SystemExit) if status else nullcontext():
        checks.main()
    assert "5 tests" in out.read_text()
