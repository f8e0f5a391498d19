"""Options of a registration, which its report repeats."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l2reg.checkpoints.run_checkpoints import checkpoint_files
from l2reg.io.scan_source import input_digest
from l2reg.problems import InputError, Problem
from l2reg.registration.initial_map import PREALIGNMENTS, Prealignment
from l2reg.registration.result import EXTRAS, Extra
from l2reg.registration.scan_files import ScanFiles
from l2reg.registration.transform_reader import transform_path
from l2reg.registration.used_annotations import USES, Use


@dataclass(frozen=True, kw_only=True)
class RegisterOptions:
    """Options of ``register``, which explains them."""

    preset: str | None = None
    device: str = "auto"
    prealign: Prealignment = "auto"
    initial: str | Path | None = None
    ckpt: str | Path | None = None
    trust: Sequence[str] = ()
    refine: bool = True
    use: Sequence[Use] = ()
    save: Sequence[Extra] = ()

    def input_paths(self, files: tuple[ScanFiles, ScanFiles]) -> list[Path]:
        """Return all files that the registration of two scans reads."""
        paths = [path for each in files for path in each.paths]
        if self.initial is not None:
            paths.append(transform_path(self.initial))
        if self.ckpt is not None:
            paths.append(checkpoint_files(Path(self.ckpt))[0])
        return paths

    def describe(self, files: tuple[ScanFiles, ScanFiles]) -> dict[str, Any]:
        """Return the files, their digests and what the result depends on."""
        scans = {
            side: {name: _text(value) for name, value in vars(each).items()}
            for side, each in zip(("fixed", "moving"), files, strict=True)
        }
        return {
            **scans,
            "like": self.preset,
            "prealign": self.prealign,
            "initial": _text(self.initial),
            "ckpt": _text(self.ckpt),
            "refine": self.refine,
            "use": list(self.use),
            "sha256": {str(path): input_digest(path) for path in self.input_paths(files)},
        }


def check_values(prealign: str, use: Sequence[str], save: Sequence[str]) -> None:
    """Raise ``InputError`` if options of ``register`` have values that do not exist."""
    problems = [*_list_problems("use", use, USES), *_list_problems("save", save, EXTRAS)]
    if prealign not in PREALIGNMENTS:
        known = ", ".join(PREALIGNMENTS)
        problems.append(
            Problem(
                where=f"prealign={prealign!r}",
                what="is unknown",
                expected=known,
                found=prealign,
                remedy=f"use one of: {known}",
            )
        )
    if problems:
        raise InputError(problems)


def _list_problems(name: str, values: Sequence[str], known: Sequence[str]) -> list[Problem]:
    if not isinstance(values, str) and set(values) <= set(known):
        return []
    return [
        Problem(
            where=f"{name}={values!r}",
            what="is no list of what exists",
            expected=f"a list of some of {', '.join(known)}",
            found=repr(values),
            remedy=f"{name}={[known[0]]}",
        )
    ]


def _text(value: object) -> str | list[str] | None:
    if isinstance(value, tuple):
        return [str(item) for item in value]
    return None if value is None else str(value)
