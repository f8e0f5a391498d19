"""The benchmarks and the example load, and the settings that they try exist."""

import importlib
import sys
from pathlib import Path

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
    ]
    assert [check.passed for check in found] == [None, True, False]
    page = checks.report(found, cpu, small=True, seconds=3.0)
    assert "- card: no GPU: this run checks the script alone" in page
    assert "| tests marked gpu | not run: no GPU | - |" in page
    assert "median 0.173, 95 % below 0.173 voxels | FAILED |" in page
