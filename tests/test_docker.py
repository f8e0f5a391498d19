"""The submission image: its entry point in a process of its own, and the image itself."""

import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from l2reg.phantom.make import make_phantom

ROOT = Path(__file__).parents[1]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
SMALL = "convex refine=none task.shape=[72,64,80] task.spacing_mm=[4.67,3.75,4.55]"


def run(*arguments: str, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [sys.executable, *arguments], capture_output=True, text=True, check=False,
        env=ENVIRONMENT, **more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for task, choice in {"task_01": "none", "task_02": SMALL, "task_03": "none"}.items():
        (folder / f"{task}.txt").write_text(choice)
    done = run(str(ROOT / "docker/compose.py"), str(folder))
    assert done.returncode == 0, done.stderr
    return folder


def entry(models: Path, test: Path) -> list[str]:
    return [str(ROOT / "docker/run.py"), "--methods", str(models), "--test", str(test),
            "--out", "submission"]  # fmt: skip


def test_the_entry_point_writes_a_field_a_pair_and_exits_with_0(
    models: Path, phantoms: dict[str, Path]
) -> None:
    done = run(*entry(models, phantoms["lung"]))
    assert done.returncode == 0, done.stderr
    assert "!!! no GPU is visible" in done.stdout
    (field,) = Path("submission/task_02").glob("disp_*.npz")
    assert np.abs(np.load(field)["arr_0"]).max() > 1
    assert Path("submission/runtime.csv").is_file()


def test_faults_are_told_again_at_the_end_and_in_the_exit_code(
    models: Path, phantoms: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(phantoms["lung"], tmp_path / "test")
    for scan in (tmp_path / "test/task_02/training/scans").glob("*"):
        scan.write_bytes(b"x")
    done = run(*entry(models, tmp_path / "test"))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "1 faults, see above"
    assert "gets the zero field" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_terminated_run_leaves_complete_files_alone(
    models: Path, phantoms: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(phantoms["lung"], tmp_path / "test")
    rows = "1, 1\n2, 2\n3, 3\n" * 40
    (tmp_path / "test/task_02/pairs_val.csv").write_text(f"fixed, moving\n{rows}")
    process = subprocess.Popen([sys.executable, *entry(models, tmp_path / "test")],
                               env=ENVIRONMENT, stdout=subprocess.DEVNULL)  # fmt: skip
    deadline = time.monotonic() + 60
    while not list(Path("submission").glob("task_02/disp_*.npz")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    try:
        assert process.wait(timeout=30) == 128 + signal.SIGTERM
    finally:
        process.kill()
    left = [path for path in Path("submission").rglob("*") if path.is_file()]
    assert {path.suffix for path in left} == {".npz", ".csv"}
    for path in left:
        if path.suffix == ".npz":
            assert np.load(path)["arr_0"].shape == (3, 36, 32, 40)


DESTROYED = """
import os, signal, sys, time
from pathlib import Path
sys.path.insert(0, "docker")
import run

class Scan:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)

def serve(*_):
    scan = Scan()
    del scan
    time.sleep(20)
    return []

run.serve_2021 = serve
run.main([])
"""


def test_a_run_that_is_terminated_while_an_object_is_destroyed_ends() -> None:
    begin = time.monotonic()
    done = run("-c", DESTROYED, cwd=ROOT)
    assert done.returncode == 128 + signal.SIGTERM
    assert "Exception ignored" in done.stderr  # the first exit was
    assert time.monotonic() - begin < 20


@pytest.mark.parametrize(
    ("choice", "words"),
    [("convex refine=adamm", "adamm"), ("convex precision=fp8", "float32, tf32, bf16")],
)
def test_a_wrong_choice_is_found_while_the_image_is_built(
    tmp_path: Path, choice: str, words: str
) -> None:
    (tmp_path / "task_01.txt").write_text(choice)
    done = run(str(ROOT / "docker/compose.py"), str(tmp_path))
    assert done.returncode != 0
    assert words in done.stderr


@pytest.mark.parametrize("installed", [True, False])
def test_a_torch_of_the_base_image_stays(tmp_path: Path, installed: bool) -> None:
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    flags = [] if installed else ["-S"]  # without site-packages there is none
    done = run(*flags, str(ROOT / "docker/requirements.py"), "needed", "pinned", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    needed = (tmp_path / "needed").read_text().splitlines()
    pinned = (tmp_path / "pinned").read_text().splitlines()
    assert any(line.startswith("torch") for line in needed) != installed
    (torch,) = (line for line in pinned if line.startswith("torch=="))
    assert not installed or torch == f"torch=={version('torch')}"
    assert any(line.startswith("monai") for line in needed)
    assert any(line.startswith("numpy==") for line in pinned)


def built_with(tmp_path: Path, engine: str, **choices: str) -> subprocess.CompletedProcess[str]:
    """Run a copy of build.sh beside what it needs."""
    (tmp_path / "docker").mkdir(exist_ok=True)
    shutil.copy(ROOT / "docker/build.sh", tmp_path / "docker")
    return subprocess.run(
        ["bash", tmp_path / "docker/build.sh", "--pull"], capture_output=True, text=True,
        check=False, env=os.environ | choices | {"ENGINE": engine},
    )  # fmt: skip


def test_a_method_is_chosen_for_every_task(tmp_path: Path) -> None:
    (tmp_path / "runs/lung_unet").mkdir(parents=True)
    (tmp_path / "runs/lung_unet/last.pt").write_bytes(b"last")
    (tmp_path / "runs/lung_unet/best.pt").write_bytes(b"best")
    done = built_with(tmp_path, "echo built", TASK_01="none",
                      TASK_02="runs/lung_unet refine=gauss_newton")  # fmt: skip
    assert done.stdout == "built --pull .\n"
    folder = tmp_path / "docker/models"
    assert {path.name: path.read_bytes().strip() for path in folder.iterdir()} == {
        "task_01.txt": b"none",
        "task_02.txt": b"task_02.pt refine=gauss_newton",
        "task_02.pt": b"best",
        "task_03.txt": b"convex",
    }


def test_an_exported_model_keeps_its_kind_in_the_image(tmp_path: Path) -> None:
    (tmp_path / "published").mkdir()
    (tmp_path / "published/model.safetensors").write_bytes(b"exported")
    built_with(tmp_path, "echo built", TASK_03="published")
    folder = tmp_path / "docker/models"
    assert (folder / "task_03.txt").read_text().strip() == "task_03.safetensors"
    assert (folder / "task_03.safetensors").read_bytes() == b"exported"


def test_a_checkpoint_that_is_not_there_stops_the_build(tmp_path: Path) -> None:
    done = built_with(tmp_path, "echo built", TASK_03="runs/nothing")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "TASK_03=runs/nothing: no checkpoint" in done.stderr


CONTAINER = os.environ.get("L2REG_CONTAINER", "")


@pytest.mark.container
@pytest.mark.skipif(not CONTAINER, reason="L2REG_CONTAINER names no program that builds and runs")
def test_the_image_writes_the_fields_that_predict_writes(tmp_path: Path) -> None:
    """Its program takes ``build CONTEXT`` and ``run TEST_DIR SUBMISSION_DIR``."""
    make_phantom("lung", tmp_path / "test", n_pairs=2, size="full", seed=0)
    choices = {"TASK_01": "none", "TASK_03": "none", "ENGINE": f"{CONTAINER} build"}
    subprocess.run([ROOT / "docker/build.sh"], check=True, env=os.environ | choices)
    (tmp_path / "submission").mkdir()
    subprocess.run([CONTAINER, "run", tmp_path / "test", tmp_path / "submission"], check=True)
    done = run(str(ROOT / "predict.py"), "model=convex", "task=lung", "out=predicted",
               f"data.root={tmp_path / 'test'}")  # fmt: skip
    assert done.returncode == 0, done.stderr
    (ours,) = Path("predicted/submission/task_02").glob("disp_*.npz")
    theirs = np.load(tmp_path / "submission/task_02" / ours.name)["arr_0"].astype(np.float32)
    step = np.spacing(np.maximum(np.abs(theirs), 1).astype(np.float16)).astype(np.float32)
    assert (np.abs(theirs - np.load(ours)["arr_0"]) <= step).all()
