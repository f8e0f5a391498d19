"""Format check: list all faults for which the organisers refuse a submission, and warnings."""

import io
import re
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os.path import commonpath
from pathlib import Path, PurePosixPath

import numpy as np

from l2reg.data.task import Task
from l2reg.io.zips import open_zip, read_member
from l2reg.problems import InputError, Problem
from l2reg.submission.bundle import TASK_FOLDERS
from l2reg.submission.fields import check_finite, nifti_array, only_array
from l2reg.submission.half_resolution import half_shape
from l2reg.submission.numbering import PairNames, choose_release
from l2reg.submission.rules import Rules
from l2reg.wording import quantity

_BUNDLE = "l2reg bundle FOLDER --out submission.zip writes the whole tree"
_FILE_NAMES = {  # by whether the rules want fields of full resolution
    False: re.compile(r"disp_(\d{4})_(\d{4})\.npz"),
    True: re.compile(r"disp_(\d{4})(?:_\d{4})?_(\d{4})(?:_\d{4})?\.(?:npz|nii\.gz)"),
}


@dataclass(frozen=True)
class CheckResult:
    """Faults and warnings of one submission.

    Attributes:
        faults: Problems for each of which the organisers refuse the whole submission.
        warnings: Problems that the organisers accept but that are probably mistakes.
    """

    faults: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)


def check_submission(path: Path, task: Task, names: PairNames, rules: Rules) -> CheckResult:
    """Open a zip as the organisers do, and check the form of every field of one task.

    Args:
        path: Path of the zip, which may hold other tasks too.
        task: Task whose fields are checked.
        names: Names of the pairs that are evaluated.
        rules: Rules that the submission follows.
    """
    try:
        with open_zip(path) as archive:
            return _Check(path, archive, task, rules).run(names)
    except (OSError, zipfile.BadZipFile) as error:
        found = "a folder" if path.is_dir() else str(error) or "not a zip"
        fault = Problem(
            where=str(path), what="cannot be opened", expected="a zip", found=found, remedy=_BUNDLE
        )
        return CheckResult([fault])


class _Check:
    """The check of one zip; each method adds its faults and warnings to ``result``."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, task: Task, rules: Rules) -> None:
        self.path = path
        self.archive = archive
        self.task = task
        self.full_resolution = rules.full_resolution
        self.result = CheckResult()

    def run(self, names: PairNames) -> CheckResult:
        files = [name for name in self.archive.namelist() if not name.endswith("/")]
        hidden = [name for name in files if _is_hidden(name)]
        if hidden:
            self._warn(
                hidden[0],
                f"is hidden, {quantity(len(hidden), 'file')} in all",
                "fields only",
                "zip without them",
            )
        files = [name for name in files if name not in hidden]
        fields = [name for name in files if self._belongs_to_task(name)]
        if not self.full_resolution:
            self._check_tree(files, fields)
        for name, times in Counter(fields).items():
            if times > 1:
                self._fault(name, f"occurs {times} times", "one file of this name", "zip it again")
        present = self._check_names(dict.fromkeys(fields))
        self._check_pairs(present, names)
        for name in present.values():
            self._check_field(name)
        return self.result

    def _belongs_to_task(self, name: str) -> bool:
        """Return whether a file may be a field of the task, by its folder or its name."""
        others = set(TASK_FOLDERS) - {self.task.folder}
        path = PurePosixPath(name)
        in_folder = not self.full_resolution and path.parent.name == self.task.folder
        return not others & set(path.parts) and (in_folder or path.name.startswith("disp_"))

    def _check_tree(self, files: Sequence[str], fields: Sequence[str]) -> None:
        """Check that the task's folder is at the top once the platform has unpacked the zip.

        The platform strips the folders that all files share.
        """
        folders = [str(PurePosixPath(name.lstrip("/")).parent) for name in files]
        top = PurePosixPath(commonpath(folders)) if files else PurePosixPath()
        misplaced = [
            name
            for name in fields
            if PurePosixPath(name.lstrip("/")).relative_to(top).parts[:-1] != (self.task.folder,)
        ]
        if misplaced:
            path = PurePosixPath(misplaced[0].lstrip("/")).relative_to(top)
            self._fault(
                misplaced[0],
                f"is in the wrong place, {quantity(len(misplaced), 'field')} in all",
                f"submission/{self.task.folder}/ and, beside that folder, submission/dummy.txt",
                _BUNDLE,
                found=f"{path}, once the platform has stripped the folders that all files share",
            )

    def _check_names(self, fields: Sequence[str] | dict[str, None]) -> dict[str, str]:
        """Check the names of the fields, and return the path of each valid one by its ids."""
        file_name = _FILE_NAMES[self.full_resolution]
        ending = "nii.gz" if self.full_resolution else "npz"
        present = {}
        for name in fields:
            match = file_name.fullmatch(PurePosixPath(name).name)
            if match is None:
                self._fault(
                    name,
                    "has a name that the evaluation does not look for",
                    f"disp_FFFF_MMMM.{ending}: fixed id, then moving id, four digits each",
                    "rename it",
                )
                continue
            if self.full_resolution and not self._is_name_accepted(name):
                self._fault(
                    name,
                    "has the short name",
                    "disp_FFFF_0000_MMMM_0000.nii.gz, as both scans are of one modality",
                    "rename it",
                )
            present["_".join(match.groups())] = name
        return present

    def _is_name_accepted(self, name: str) -> bool:
        """Return whether the current rules accept a name: short names need two modalities."""
        return self.task.intra_patient or PurePosixPath(name).name.count("_") == 4

    def _check_pairs(self, present: Mapping[str, str], names: PairNames) -> None:
        """Check that the fields are those of the pairs that are evaluated, under their ids."""
        try:
            release = choose_release(present, names, self.task, str(self.path))
        except InputError as error:
            self.result.faults.extend(error.problems)
            return
        own, expected = names.by_release[release], names.by_release[names.expected]
        by_name = {old: new for old, new in zip(own, expected, strict=True) if old != new}
        renames = [f"disp_{old} to disp_{by_name[old]}" for old in present if old in by_name]
        if renames:
            self._fault(
                "",
                f"holds {quantity(len(renames), 'field')} with ids of another release",
                f"the ids of {names.expected}: {', '.join(expected)}",
                f"rename all of them, such as {renames[0]}",
                found=f"the ids of {release}",
            )
        missing = [name for name in own if name not in present]
        extra = [name for name in present if name not in own]
        if missing:
            swapped = [_swap_ids(name) for name in missing if _swap_ids(name) in extra]
            remedy = "predict these pairs: l2reg predict writes one field for each"
            if swapped:
                remedy = f"put the fixed id first: the zip holds {swapped[0]}"
            found = f"{len(missing)} missing: {', '.join(missing)}"
            expected_fields = f"a field for each of {quantity(len(own), 'pair')}"
            self._fault("", "lacks fields", expected_fields, remedy, found)
        if extra:
            self._warn(
                present[extra[0]],
                f"is for a pair that is not evaluated, {quantity(len(extra), 'field')} in all",
                f"pairs {', '.join(own)}",
                "check the ids: the releases of a task number its scans differently",
            )

    def _check_field(self, name: str) -> None:
        where = f"{self.path}: {name}"
        try:
            content = read_member(self.archive, name)
            array = self._read_array(content, where)
        except InputError as error:
            self.result.faults.extend(error.problems)
            return
        except (OSError, zipfile.BadZipFile) as error:
            self._fault(name, "is damaged", "intact bytes", "zip it again", found=str(error))
            return
        self._check_form(name, content, array)
        try:
            check_finite(array, where)
        except InputError as error:
            self.result.faults.extend(error.problems)
        self._check_values(name, array)

    def _read_array(self, content: bytes, where: str) -> np.ndarray:
        expected = f"one array of shape {self._shape}"
        if where.endswith(".npz"):
            return only_array(content, where, expected)
        return nifti_array(content, where, expected)

    @property
    def _shape(self) -> tuple[int, ...]:
        grid = self.task.shape
        return (*grid, 3) if self.full_resolution else (3, *half_shape(grid))

    def _check_form(self, name: str, content: bytes, array: np.ndarray) -> None:
        if array.shape != self._shape:
            remedy = _shape_remedy(array.shape, self._shape, self.task)
            self._fault(
                name, "has the wrong shape", f"{self._shape}", remedy, found=f"{array.shape}"
            )
        if self.full_resolution:
            return
        if array.dtype != np.float16:
            self._fault(
                name,
                "has the wrong type",
                "float16",
                "field.astype(np.float16)",
                found=f"{array.dtype}",
            )
        with zipfile.ZipFile(io.BytesIO(content)) as npz:
            if npz.namelist() != ["arr_0.npy"]:
                self._fault(
                    name,
                    "stores its array under another name",
                    "arr_0",
                    "np.savez(path, field), without a keyword",
                    found=npz.namelist()[0].removesuffix(".npy"),
                )

    def _check_values(self, name: str, array: np.ndarray) -> None:
        """Warn of displacements that are all zero or larger than the volume."""
        largest = float(np.nan_to_num(np.abs(array.astype(np.float32)), posinf=0).max(initial=0))
        if largest == 0:
            self._warn(
                name, "has no displacement", "values other than 0", "keep it if intended", found="0"
            )
        if largest > max(self.task.shape):
            self._warn(
                name,
                "has displacements larger than the volume",
                f"displacements in voxels, below {max(self.task.shape)}",
                "check the unit of the values",
                found=f"{largest:.4g}",
            )

    def _fault(
        self, name: str, what: str, expected: str, remedy: str, found: str | None = None
    ) -> None:
        self.result.faults.append(self._problem(name, what, expected, remedy, found))

    def _warn(
        self, name: str, what: str, expected: str, remedy: str, found: str | None = None
    ) -> None:
        self.result.warnings.append(self._problem(name, what, expected, remedy, found))

    def _problem(
        self, name: str, what: str, expected: str, remedy: str, found: str | None
    ) -> Problem:
        where = f"{self.path}: {name}" if name else str(self.path)
        return Problem(
            where=where, what=what, expected=expected, found=found or name, remedy=remedy
        )


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)


def _swap_ids(name: str) -> str:
    return "_".join(reversed(name.split("_")))


def _shape_remedy(found: tuple[int, ...], expected: tuple[int, ...], task: Task) -> str:
    """Return how to turn a field of another common shape into the expected one."""
    first = (3, *found[:3]) if found[-1:] == (3,) else found
    last = found == (*expected[1:], 3) or found == (*task.shape, 3)
    steps = ["component first: np.moveaxis(field, -1, 0)"] if last and expected[0] == 3 else []
    if first == (3, *task.shape) and expected[0] == 3:
        steps.append("half the resolution with unchanged values, as l2reg predict writes it")
    if expected[0] != 3 and found == (3, *expected[:3]):
        steps.append("component last: np.moveaxis(field, 0, -1)")
    if expected[0] == 3 and found == (3, *reversed(expected[1:])):
        steps.append("reverse the array axes and the components, to the axis order of nibabel")
    return "; ".join(steps) or "write it with l2reg predict; docs/conventions.md shows the form"
