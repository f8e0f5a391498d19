"""Write ``constraints-hashed.txt``: ``constraints.txt`` with the SHA-256 of every file.

For Linux on x86-64 and Python 3.11 to 3.13. PyTorch is left out: which of its wheels is right, with
CUDA or without, depends on the machine. pip names the files; nothing is installed.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.11", "3.12", "3.13")
GLIBC = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_24", "manylinux_2_17", "manylinux2014",
         "manylinux_2_12", "manylinux2010", "manylinux_2_5", "manylinux1")  # fmt: skip
HEADER = """\
# constraints.txt with hashes, for Linux on x86-64; written by: make hashes
#   pip install --require-hashes --no-deps -r constraints-hashed.txt
#   pip install -c constraints.txt torch    # the wheel for your machine, with CUDA or without
#   pip install --no-deps -e .
"""


def pinned_versions() -> dict[str, str]:
    """Return the versions of ``constraints.txt`` by name as it is written there."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if not line.startswith("#"))
    return {name: version for name, version in pairs}  # noqa: C416 - lists of two


def hashes_for(python: str, pins: dict[str, str]) -> dict[str, str]:
    """Return the SHA-256 of the file that pip would install on a version of Python, by name."""
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text("".join(f"{name}=={pins[name]}\n" for name in pins))
        platforms = [f"--platform={glibc}_x86_64" for glibc in GLIBC]
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
                   "--dry-run", "--ignore-installed", "--no-deps", f"--python-version={python}",
                   *platforms, f"--target={folder}/none", "--report", f"{folder}/report.json",
                   "-r", str(requirements)]  # fmt: skip
        subprocess.run(command, check=True)
        report = json.loads((Path(folder) / "report.json").read_text(encoding="utf-8"))
    found = {}
    for item in report["install"]:
        hashes = item["download_info"]["archive_info"]["hashes"]
        found[normalised(item["metadata"]["name"])] = hashes["sha256"]
    return {name: found[normalised(name)] for name in pins}


def normalised(name: str) -> str:
    """Return the name of a package as registries compare it."""
    return name.lower().replace("_", "-").replace(".", "-")


def main() -> None:
    """Write the file."""
    pins = pinned_versions()
    del pins["torch"]
    found = [hashes_for(python, pins) for python in PYTHONS]
    lines = [HEADER]
    for name, version in pins.items():
        hashes = sorted({each[name] for each in found})
        options = " \\\n".join(f"    --hash=sha256:{value}" for value in hashes)
        lines.append(f"{name}=={version} \\\n{options}\n")
    (ROOT / "constraints-hashed.txt").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
