"""Write ``docs/licences.md``: the licence that each package of ``constraints.txt`` states.

The packages must be installed, as ``make setup`` does.
"""

from importlib.metadata import PackageMetadata, metadata
from pathlib import Path

from tools.hashes import pinned_versions

ROOT = Path(__file__).parents[1]
HEADER = """\
# Licences of what is installed

The packages of `constraints.txt`, with the licences they state; none is part of this repository.
PyTorch with CUDA has NVIDIA's libraries besides, with their own terms. Written by `make licences`.

| package | version | licence |
|---|---|---|
"""


def licence(package: PackageMetadata) -> str:
    """Return a package's licence: its SPDX expression, else its classifiers, else its field."""
    if "License-Expression" in package:
        return package["License-Expression"]
    classifiers = package.get_all("Classifier") or []
    names = [text.split(" :: ")[-1] for text in classifiers if text.startswith("License :: ")]
    if stated := ", ".join(name for name in names if name != "OSI Approved"):
        return stated
    return package["License"].splitlines()[0] if "License" in package else "not stated"


def main() -> None:
    """Write the file."""
    rows = []
    for name, version in pinned_versions().items():
        package = metadata(name)
        rows.append(f"| {name} | {version} | {licence(package)} |\n")
    (ROOT / "docs/licences.md").write_text(HEADER + "".join(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
