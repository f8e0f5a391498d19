"""Scans and pairs of a task on disk, in the layout of any of its releases."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from l2reg.data import pair_lists
from l2reg.data.exclusion import exclusion_keys, file_stem
from l2reg.data.pair_lists import IdPair
from l2reg.data.pairs import Pair, PointFiles, Scan
from l2reg.data.task import Layout, ScanFiles, Task
from l2reg.io.files import files_below
from l2reg.problems import InputError, Problem

_ID = re.compile(r"\{id:0(\d)\}")


@dataclass(frozen=True)
class Release:
    """Files of one release of a task, in one folder.

    Attributes:
        task: Task, with the shape of the layout.
        layout: Layout of the folder.
        folder: Folder of the task.
        exclude: Ids, without leading zeros, or file stems of scans that are never used.
    """

    task: Task
    layout: Layout
    folder: Path
    exclude: frozenset[str] = frozenset()

    @cached_property
    def paths(self) -> dict[str, Path]:
        """All files below the folder, by their path relative to it; links are followed."""
        files = files_below(self.folder)
        return {path.relative_to(self.folder).as_posix(): path for path in files}

    def split_ids(self, split: str) -> list[IdPair]:
        """Return the pairs of ``val`` or ``test``, as ids.

        They come from the CSV file in the folder, else from the JSON description, else from the
        layout's official list.
        """
        csv_path = self.folder / f"pairs_{split}.csv"
        if csv_path.is_file():
            return pair_lists.read_csv(csv_path)
        if self.layout.dataset_json and (self.folder / self.layout.dataset_json).is_file():
            json_path = self.folder / self.layout.dataset_json
            pairs = pair_lists.read_json(json_path, f"registration_{split}")
            if pairs is not None:
                return pairs
        official = self.layout.val if split == "val" else self.layout.test
        return [(int(fixed), int(moving)) for fixed, moving in official]

    def pair(self, ids: IdPair, near: Path | None = None) -> Pair:
        """Return the pair of two ids.

        Args:
            ids: Ids of the fixed and the moving scan in this layout.
            near: Folder that is searched first, for scans of every kind. It is the folder of a
                pair list: ``MRIs/pairs_val.csv`` pairs two MR scans.
        """
        fixed, moving = ids
        return Pair(
            fixed=self._scan(self.layout.fixed, fixed, near),
            moving=self._scan(self.layout.moving, moving, near),
            keypoints=self._points(self.layout.keypoints, ids),
            landmarks=self._points(self.layout.landmarks, ids),
        )

    def intra_patient_pairs(self) -> list[Pair]:
        """Return the pair of every patient with a fixed and a moving scan, of all splits."""
        if not self.task.intra_patient:
            return []
        patients = set(self._matches(self.layout.fixed.image)) & set(
            self._matches(self.layout.moving.image)
        )
        return [self.pair((number, number)) for number in sorted(patients)]

    def subfolder(self, path: Path) -> Path | None:
        """Return the folder strictly below that of the task that ``path`` is, else ``None``.

        The same folder under another name counts: a relative path, or one through links.
        """
        real = path.resolve()
        below = (folder for folder in self._folders if folder.resolve() == real)
        return next(below, None)

    def scans(self) -> list[Scan]:
        """Return the scans of all splits, without those of ``ScanFiles.except_ids``."""
        scans: dict[Path, Scan] = {}
        for files in (self.layout.fixed, self.layout.moving, *self.layout.unpaired):
            for number in sorted(self._matches(files.image)):
                if number not in files.except_ids:
                    scan = self._scan(files, number, None)
                    scans.setdefault(scan.image, scan)
        return list(scans.values())

    def is_held_out(self, scan: Scan) -> bool:
        """Return whether a scan is excluded, or in a folder whose scans are never trained on."""
        names = self._folder_names.get(scan.image.resolve(), set())
        return bool(names & set(self.layout.held_out_folders)) or self.is_excluded(scan)

    def is_excluded(self, scan: Scan) -> bool:
        """Return whether ``data.exclude`` names the scan's id or its file's stem."""
        return str(scan.id) in self.exclude or file_stem(scan.image.name) in self.exclude

    def known_scans(self, pairs: Sequence[IdPair]) -> tuple[set[int], set[str]]:
        """Return the ids and the file stems of all scans on disk or in a pair list.

        Args:
            pairs: Pairs whose scans count as well, whether they are on disk or not.
        """
        ids: set[int] = set()
        stems: set[str] = set()
        for files in (self.layout.fixed, self.layout.moving, *self.layout.unpaired):
            on_disk = self._matches(files.image)
            ids |= set(on_disk)
            stems |= {file_stem(path.name) for paths in on_disk.values() for path in paths}
        for pair in pairs:
            ids |= set(pair)
            for files, number in zip((self.layout.fixed, self.layout.moving), pair, strict=True):
                stems.add(file_stem(Path(file_name(files.image, number)).name))
        return ids, stems

    def _scan(self, files: ScanFiles, number: int, near: Path | None) -> Scan:
        """Return a scan with its files.

        A scan of any kind in the folder ``near`` takes precedence over one of the kind ``files``.
        """
        kind, image = files, None
        if near is not None:
            for kind in (files, *self.layout.unpaired):
                if image := self._find(kind.image, number, near):
                    break
        if image is None:
            kind, image = files, self._find(files.image, number, self.folder)
        return Scan(
            id=number,
            official_id=self.layout.official_id(number),
            modality=kind.modality,
            image=image or self.folder / file_name(kind.image, number),
            labels=self._find(kind.labels, number, self.folder) if kind.labels else None,
            mask=self._find(kind.mask, number, self.folder) if kind.mask else None,
        )

    def _points(self, patterns: Sequence[str], ids: IdPair) -> PointFiles | None:
        """Return the point files of a pair, or ``None`` unless there is one for each pattern."""
        numbers = ids if len(patterns) == 2 else ids[:1]
        files = [
            self._find(pattern, number, self.folder)
            for pattern, number in zip(patterns, numbers, strict=False)
        ]
        paths = tuple(path for path in files if path is not None)
        return PointFiles(paths) if patterns and len(paths) == len(patterns) else None

    def _find(self, pattern: str, number: int, within: Path) -> Path | None:
        """Return the file of an id in a folder or below, or ``None``; two files are an error.

        Of several paths to one file, through links, the first is returned.
        """
        paths = [path for path in self._matches(pattern).get(number, ()) if within in path.parents]
        files = list({path.resolve(): path for path in reversed(paths)}.values())[::-1]
        if len(files) > 1:
            raise InputError(
                Problem(
                    where=f"task {self.task.name}, scan {number}",
                    what="is on disk more than once",
                    expected=f"one file that ends in {file_name(pattern, number)}",
                    found=", ".join(str(path.relative_to(self.folder)) for path in files),
                    remedy=f"move all but one out of {self.folder}",
                )
            )
        return files[0] if files else None

    def _matches(self, pattern: str) -> dict[int, list[Path]]:
        """Return the files whose path ends with ``pattern``, by id."""
        if pattern not in self._index:
            before, width, after = _ID.split(pattern)
            ending = re.escape(before) + rf"(\d{{{width}}})" + re.escape(after)
            expression = re.compile("(?:.*/)?" + ending.replace(r"\?", "[^/]"))
            files: dict[int, list[Path]] = {}
            for relative, path in self.paths.items():
                if match := expression.fullmatch(relative):
                    files.setdefault(int(match.group(1)), []).append(path)
            self._index[pattern] = files
        return self._index[pattern]

    @property
    def _folders(self) -> list[Path]:
        """All folders with files strictly below that of the task, sorted."""
        parents = {parent for path in self.paths.values() for parent in path.parents}
        return sorted(parent for parent in parents if self.folder in parent.parents)

    @cached_property
    def _folder_names(self) -> dict[Path, set[str]]:
        """Names of the folders on all paths to a file, through links too, by the real path."""
        names: dict[Path, set[str]] = {}
        for path in self.paths.values():
            parts = path.relative_to(self.folder).parts[:-1]
            names.setdefault(path.resolve(), set()).update(parts)
        return names

    @cached_property
    def _index(self) -> dict[str, dict[int, list[Path]]]:
        """Results of ``_matches``, by pattern."""
        return {}


def open_release(task: Task, root: Path, *, layout: str = "auto", exclude: object = ()) -> Release:
    """Return the release of a task below a data root.

    Args:
        task: Task whose data is opened.
        root: Data root with the task's folder, or that folder itself.
        layout: Name of a layout, or ``auto`` for the first whose folder exists.
        exclude: Ids or file stems of scans that are never used. Ids compare as numbers.

    Raises:
        InputError: If the layout is unknown, or its folder is missing or empty; the message says
            where to download the data, and which files are expected.
    """
    if layout not in ("auto", *task.layouts):
        raise InputError(
            Problem(
                where=f"data.layout={layout}",
                what=f"is not a layout of task {task.name}",
                expected=f"auto, {', '.join(task.layouts)}",
                found=repr(layout),
                remedy="leave it out: auto finds the layout by its folder",
            )
        )
    names = list(task.layouts) if layout == "auto" else [layout]
    for name in names:
        candidate = task.layouts[name]
        own = [root] if root.name == candidate.folder else []
        for folder in (root / candidate.folder, *own):
            if folder.is_dir() and any(folder.iterdir()):
                with_shape = replace(task, shape=candidate.shape) if candidate.shape else task
                return Release(with_shape, candidate, folder, exclusion_keys(exclude))
    trees = [
        f"{root / task.layouts[name].folder}/.../{file_name(task.layouts[name].fixed.image, 1)}"
        for name in names
    ]
    raise InputError(
        Problem(
            where=f"data root {root}",
            what=f"holds no data of task {task.name}",
            expected=" or ".join(trees),
            found=_listing(root),
            remedy=f"download it from {task.download}, or set its folder: data.root=FOLDER "
            "(or the environment variable L2REG_DATA); task=phantom needs no download",
        )
    )


def file_name(pattern: str, number: int) -> str:
    """Return the path of an id for a pattern; ``T?`` becomes ``Tr``, the training folder."""
    return _ID.sub(lambda match: f"{number:0{match.group(1)}}", pattern).replace("T?", "Tr")


def _listing(root: Path) -> str:
    """Return the first names in a folder, for a message."""
    if not root.is_dir():
        return "no such folder"
    names = sorted(path.name for path in root.iterdir())
    return (
        ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "an empty folder"
    )
