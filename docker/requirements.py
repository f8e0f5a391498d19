"""Write the requirements of the image for pip: ``requirements.py REQUIREMENTS CONSTRAINTS``.

These are the dependencies of l2reg at the versions of constraints.txt. The PyTorch of the base
image is kept if l2reg supports its version.
"""

import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

OLDEST_TORCH = (2, 8)


def main(requirements: Path, constraints: Path) -> None:
    """Write the requirements and the constraints of pip."""
    needed = tomllib.loads(Path("pyproject.toml").read_text())["project"]["dependencies"]
    pinned = Path("constraints.txt").read_text().splitlines()
    if _has_torch():
        needed = [line for line in needed if not line.startswith("torch")]
        pinned = [line for line in pinned if not line.startswith("torch==")]
        pinned.append(f"torch=={version('torch')}")
    requirements.write_text("\n".join(needed) + "\n")
    constraints.write_text("\n".join(pinned) + "\n")


def _has_torch() -> bool:
    """Return whether a PyTorch is installed whose version l2reg supports."""
    try:
        release = tuple(int(part) for part in version("torch").split(".")[:2])
    except PackageNotFoundError:
        return False
    return release >= OLDEST_TORCH and release != (2, 9)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
