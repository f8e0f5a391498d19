"""Source commit: the state of the checkout of l2reg that runs, if it is one."""

import os
import re
import subprocess
from pathlib import Path

_OWN_NAME = re.compile(r'^name = "l2reg"$', re.MULTILINE)


def source_commit(package: Path) -> tuple[str | None, bool | None]:
    """Return the commit of a checkout of l2reg, and whether its files differ from the commit.

    Both are ``None`` for an installed package: neither a repository that it is installed in, nor
    one that holds a copy of it, nor the one of the working folder is asked.

    Args:
        package: Folder of the package ``l2reg``.
    """
    root = package.resolve().parent
    project = root / "pyproject.toml"
    if not (project.is_file() and _OWN_NAME.search(project.read_text(encoding="utf-8"))):
        return None, None
    top = _git(root, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != root:
        return None, None
    own_files = ("pyproject.toml", f"{package.name}/__init__.py")
    if _git(root, "ls-files", "--error-unmatch", *own_files) is None:
        return None, None
    commit = _git(root, "rev-parse", "--verify", "HEAD")
    return commit, None if commit is None else bool(_git(root, "status", "--porcelain"))


def _git(root: Path, *arguments: str) -> str | None:
    """Return the output of a git command in a folder, or ``None`` if it fails."""
    # GIT_DIR and the like, as git sets them for its hooks, would name another repository
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    command = ["git", *arguments]
    try:
        done = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
