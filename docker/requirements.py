"""Write what pip installs into the image: ``requirements.py REQUIREMENTS CONSTRAINTS``.

These are l2reg's dependencies at the versions of constraints.txt; a PyTorch that the base image has
and that l2reg can use stays.
"""

import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

OLDEST_TORCH = (2, 8)


def main(requirements: Path, constraints: Path) -> None:
    """Write both files."""
    needed = tomllib.loads(Path("pyproject.toml").read_text())["project"]["dependencies"]
    pinned = Path("constraints.txt").read_text().splitlines()
    if _has_torch():
        needed = [line for line in needed if not line.startswith("torch")]
        pinned = [line for line in pinned if not line.startswith("torch==")]
        pinned.append(f"torch=={version('torch')}")
    requirements.write_text("\n".join(needed) + "\n")
    constraints.write_text("\n".join(pinned) + "\n")


def _has_torch() -> bool:
    try:
        found = tuple(int(part) for part in version("torch").split(".")[:2])
    except PackageNotFoundError:
        return False
    return found >= OLDEST_TORCH and found != (2, 9)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
