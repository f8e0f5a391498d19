import os
import shutil
import subprocess
from pathlib import Path

import pytest

from l2reg.training.run_folder import environment
from l2reg.training.source_commit import source_commit

ROOT = Path(__file__).parents[2]
GIT = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(folder: Path, *arguments: str) -> str:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    done = subprocess.run([*GIT, *arguments], cwd=folder, env=clean, check=True,
                          capture_output=True, text=True)  # fmt: skip
    return done.stdout.strip()


def made_repository(folder: Path) -> str:
    """Commit all files of a folder to a new repository there, and return the commit."""
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "--allow-empty", "-m", "x")
    return git(folder, "rev-parse", "HEAD")


def made_package(folder: Path, project: str = "l2reg") -> Path:
    (folder / "l2reg").mkdir(parents=True)
    (folder / "l2reg/__init__.py").touch()
    (folder / "pyproject.toml").write_text(f'[project]\nname = "{project}"\n')
    return folder / "l2reg"


def test_a_checkout_has_its_commit_and_knows_of_changes(tmp_path: Path) -> None:
    package = made_package(tmp_path / "checkout")
    commit = made_repository(package.parent)
    assert source_commit(package) == (commit, False)
    (package / "new.py").touch()
    assert source_commit(package) == (commit, True)
    (tmp_path / "link").symlink_to(package.parent)
    assert source_commit(tmp_path / "link/l2reg") == (commit, True)


def test_a_repository_that_l2reg_is_installed_in_is_not_its_own(tmp_path: Path) -> None:
    package = tmp_path / "study/.venv/lib/python3/site-packages/l2reg"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (tmp_path / "study/pyproject.toml").write_text('[project]\nname = "l2reg"\n')
    made_repository(tmp_path / "study")
    assert source_commit(package) == (None, None)


@pytest.mark.parametrize("place", [".", "third_party"])
def test_a_repository_that_holds_a_copy_of_l2reg_is_not_its_own(tmp_path: Path, place: str) -> None:
    package = made_package(tmp_path / "study" / place, "study" if place == "." else "l2reg")
    made_repository(tmp_path / "study")
    assert source_commit(package) == (None, None)


def test_a_repository_that_does_not_track_l2reg_is_not_its_own(tmp_path: Path) -> None:
    package = made_package(tmp_path / "study")
    (package.parent / ".gitignore").write_text("l2reg\npyproject.toml\n")
    made_repository(package.parent)
    assert source_commit(package) == (None, None)


def test_neither_the_working_folder_nor_the_environment_names_a_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    other = made_repository(tmp_path / "other")
    monkeypatch.chdir(tmp_path / "other")
    package = made_package(tmp_path / "unpacked")
    assert source_commit(package) == (None, None)
    commit = made_repository(package.parent)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other/.git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(package.parent))
    assert source_commit(package) == (commit, False)
    assert environment()["commit"] != other


def test_a_run_records_the_commit_of_this_checkout() -> None:
    assert environment()["commit"] == source_commit(ROOT / "l2reg")[0]
