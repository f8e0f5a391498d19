"""Fixtures of the container: an image's methods, and the challenge's test folder."""

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
SMALL = "convex refine=none task.shape=[72,64,80] task.spacing_mm=[4.67,3.75,4.55]"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docker/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def composed(models: Path, **choices: str) -> Path:
    models.mkdir(parents=True, exist_ok=True)
    for folder in ("task_01", "task_02", "task_03"):
        (models / f"{folder}.txt").write_text(choices.get(folder, "none"))
    script("compose").main(models)
    return models


@pytest.fixture(scope="session")
def compose_models() -> Callable[..., Path]:
    return composed


@pytest.fixture(scope="session")
def methods(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The methods of an image that registers small lungs by ``convex`` and nothing else."""
    return composed(tmp_path_factory.mktemp("models"), task_02=SMALL)


@pytest.fixture
def lungs(phantoms: dict[str, Path], tmp_path: Path) -> Path:
    """The test folder of the challenge, with three small pairs."""
    shutil.copytree(phantoms["lung"], tmp_path / "test")
    (tmp_path / "test/task_02/pairs_val.csv").write_text(
        "fixed, moving\r\n1, 1\r\n2, 2\r\n3, 3\r\n"
    )
    return tmp_path / "test"
