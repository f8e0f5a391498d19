"""The wheel in a fresh environment, from an empty folder: what a user of ``pip install`` has."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SMALL = ["device=cpu", "model.encoder=[4,6]", "model.decoder=[6]", "model.final=[4]",
         "task.pairs=3", "trainer.max_steps=2", "trainer.validate_every=2",
         "trainer.picture_every=0"]  # fmt: skip


def run(*command: str, in_folder: Path | None = None) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, cwd=in_folder
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def command(tmp_path: Path) -> str:
    """The command ``l2reg`` of a fresh environment; what l2reg needs is taken from this one."""
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    run(*build, "-d", str(tmp_path / "w"), in_folder=ROOT)
    (wheel,) = (tmp_path / "w").glob("*.whl")
    venv = tmp_path / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", str(venv))
    python = str(venv / "bin/python")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    run(*pip, "--python", python, "install", "--no-index", "--no-deps", str(wheel))
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    needed = Path(run(python, "-c", code).strip()) / "needed.pth"
    needed.write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    return str(venv / "bin/l2reg")


@pytest.mark.slow
def test_the_wheel_trains_predicts_and_evaluates_from_an_empty_folder(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    place = "import l2reg; print(l2reg.__file__)"
    assert run(str(Path(command).with_name("python")), "-c", place).startswith(str(tmp_path))
    said = run(command, "train", "task=phantom", *SMALL)
    assert "next: l2reg predict ckpt=runs/phantom_unet split=val" in said
    assert "TRE mm" in run(command, "predict", "ckpt=runs/phantom_unet", "split=val")
    said = run(command, "evaluate", "task=phantom", "task.pairs=3", "report=true",
               "submission=runs/phantom_unet/predict_val")  # fmt: skip
    assert said.splitlines()[-1] == "evaluation/phantom_val/report.html"
