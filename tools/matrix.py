"""Run the tests on each Python that is installed, and on the lowest versions that are allowed.

FOLDER gets an environment for each cell, pytest's output and ``report.md``. PyTorch with CUDA is
not downloaded: where pip finds no other wheel, the cell is not run, and the report says so.
"""

import argparse
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.hashes import pinned_versions

PYTHONS = ("python3.11", "python3.12", "python3.13")
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Cell:
    """One environment to test in: its interpreter, and whether versions are the lowest."""

    python: str
    version: str
    lowest: bool

    @property
    def name(self) -> str:
        """Name of the cell in the report, and of its folder."""
        return f"{self.version}-{'lowest' if self.lowest else 'pinned'}"


def lowest_versions(pyproject: Path) -> dict[str, str]:
    """Return the lowest version of each dependency of l2reg and its tests, by name."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    found = {}
    for requirement in [*project["dependencies"], *project["optional-dependencies"]["test"]]:
        match = re.match(r"([\w-]+)[>=]=([\d.]+)", requirement)
        if match is None:
            sys.exit(f"pyproject.toml: {requirement} has no lowest version")
        found[match[1]] = match[2]
    return found


def installed_cells(pythons: Sequence[str]) -> list[Cell]:
    """Return the cells of the interpreters that start: pinned versions, for the oldest lowest."""
    versions: dict[str, str] = {}
    for python in pythons:
        code = "import sys; print('.'.join(map(str, sys.version_info[:2])))"
        try:
            answer = subprocess.run(
                [python, "-c", code], capture_output=True, text=True, check=True
            )
        except (OSError, subprocess.CalledProcessError):
            print(f"{python}: not installed")
            continue
        versions.setdefault(answer.stdout.strip(), python)
    cells = [Cell(python, version, lowest=False) for version, python in sorted(versions.items())]
    return [*cells, *(Cell(cell.python, cell.version, lowest=True) for cell in cells[:1])]


def run_cell(cell: Cell, folder: Path, pytest_arguments: list[str]) -> str:
    """Make the environment of a cell and run the tests in it; return the outcome in words.

    With the lowest versions, warnings are no errors: old libraries warn of new ones.
    """
    environment = folder / cell.name
    subprocess.run([cell.python, "-m", "venv", "--clear", str(environment)], check=True)
    python = str(environment / "bin/python")
    pins, note = pinned_versions(), ""
    if cell.lowest:
        newest_torch, pins = pins["torch"], lowest_versions(ROOT / "pyproject.toml")
        if not is_without_cuda(python, pins["torch"]):
            note = f"; PyTorch {newest_torch}, as {pins['torch']} is only found with CUDA"
            pins["torch"] = newest_torch
    if not is_without_cuda(python, pins["torch"]):
        return f"not run: PyTorch {pins['torch']} is only found with CUDA"
    constraints = folder / f"{cell.name}.txt"
    constraints.write_text("".join(f"{name}=={pins[name]}\n" for name in pins), encoding="utf-8")
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    installed = subprocess.run(
        [*install, "-c", str(constraints), "-e", f"{ROOT}[test]"], check=False
    )
    if installed.returncode:
        return f"cannot be installed{note}"
    warnings = ["-W", "default"] if cell.lowest else []
    with (folder / f"{cell.name}.log").open("w+", encoding="utf-8") as log:
        command = [python, "-m", "pytest", "-q", *warnings, *pytest_arguments]
        subprocess.run(command, check=False, cwd=ROOT, stdout=log, stderr=log)
        log.seek(0)
        return log.read().splitlines()[-1].strip("= ") + note


def is_without_cuda(python: str, torch: str) -> bool:
    """Return whether pip finds a wheel of a version of PyTorch that needs no CUDA."""
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
               "--dry-run", "--no-deps", "--report", "-", f"torch=={torch}"]  # fmt: skip
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        return False
    (wheel,) = json.loads(answer.stdout)["install"]
    needs = wheel["metadata"].get("requires_dist", [])
    return not any(need.startswith(("nvidia-", "cuda-")) for need in needs)


def main() -> None:
    """Run all cells, print and write the report; exit with 1 if a cell failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", nargs="+", default=PYTHONS)
    parser.add_argument("--pytest", default="", help="arguments of pytest: --pytest=tests/io")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    rows = ["| Python | versions | outcome |", "|---|---|---|"]
    for cell in installed_cells(options.python):
        outcome = run_cell(cell, options.folder.absolute(), shlex.split(options.pytest))
        versions = "lowest" if cell.lowest else "constraints.txt"
        rows.append(f"| {cell.version} | {versions} | {outcome} |")
        print(rows[-1], flush=True)
    (options.folder / "report.md").write_text("\n".join(rows) + "\n", encoding="utf-8")
    sys.exit(any(word in row for row in rows for word in ("failed", "error", "cannot be")))


if __name__ == "__main__":
    main()
