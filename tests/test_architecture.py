"""The shape of the package, as tests: one direction, short files, a test beside every module."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ["problems", "shapes", "runtime", "config", "io", "geometry", "transforms", "batch", "data",
          "features", "models", "losses", "optimisation", "phantom", "submission", "evaluation",
          "ranking", "reporting", "checkpoints", "inference", "registration", "training",
          "cli"]  # fmt: skip
MODULES = sorted((ROOT / "l2reg").rglob("*.py"))
IDS = [str(path.relative_to(ROOT)) for path in MODULES]


def layer(dotted: str) -> int:
    return LAYERS.index(dotted.split(".")[1])


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_imports_point_upstream(path: Path) -> None:
    own = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for name in imported(path):
        if name.startswith("l2reg."):
            assert layer(name) <= layer(own), f"{own} must not know {name}"


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_only_the_scripts_know_hydra(path: Path) -> None:
    assert not {name.split(".")[0] for name in imported(path)} & {"hydra", "omegaconf"}


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_files_stay_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_every_module_has_its_tests(path: Path) -> None:
    if path.name in {"__init__.py", "shapes.py"}:
        return
    relative = path.relative_to(ROOT / "l2reg")
    beside = ROOT / "tests" / relative.parent / f"test_{relative.name}"
    folder = ROOT / "tests" / relative.parent.parent / f"test_{relative.parent.name}.py"
    assert beside.exists() or folder.exists(), f"{relative} has neither {beside} nor {folder}"
