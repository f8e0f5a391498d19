"""Data set of a task: pairs of each split, the training set, readers and batches."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from l2reg.data import pair_lists
from l2reg.data.augment import Augment
from l2reg.data.batches import Batches
from l2reg.data.cache import Cache
from l2reg.data.crop import check_crop
from l2reg.data.exclusion import check_exclusion, known_entries
from l2reg.data.layouts import Release, open_release
from l2reg.data.pairs import Pair, Scan
from l2reg.data.prealign import METHODS, Prealign, Search
from l2reg.data.pseudo_labels import PseudoLabels
from l2reg.data.reader import PairReader
from l2reg.data.sampling import RandomPairs, Sampling
from l2reg.data.task import Task
from l2reg.io.files import content_digest
from l2reg.problems import InputError, Problem
from l2reg.shapes import WorkingGrid
from l2reg.wording import quantity


@dataclass(frozen=True, kw_only=True)
class TrainingSet:
    """Pairs and scans for training.

    Attributes:
        intra_patient: Pairs of two scans of one patient.
        scans: Scans of patients without such a pair, to be paired across patients.
        evaluation_images: Images among them that are also scored, under this or another file name;
            they are trained on without labels and points.
    """

    intra_patient: list[Pair]
    scans: list[Scan]
    evaluation_images: list[Path]

    def all_scans(self) -> list[Scan]:
        """Return every scan of the set once."""
        return list(
            {s.image: s for s in [*self.scans, *_unique_scans(self.intra_patient)]}.values()
        )


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Data of one task on this machine.

    Attributes:
        task: Task of the data.
        root: Data root; ``None`` takes that of a task that generates its data, else the
            environment's ``L2REG_DATA``, else ``data``.
        layout: Name of the release's layout, or ``auto``.
        pairs: CSV file of pairs that replaces the official list of the requested split.
        exclude: Ids or file stems of scans that are never used. Ids compare as numbers, so that
            3 and "0003" are the same scan; an id that two kinds of scan share excludes both.
        prealign: Method of prealignment; see ``data.prealign``.
        prealign_search: Search for the map, for methods that need one.
        cache: Folder of preprocessed volumes, or ``None``.
        sampling: Settings of the sampling of training pairs.
        pseudo_labels: Labels for training scans that have none.
        augment: Random transform of training pairs, or ``None``.
        crop: Size of the box that training pairs are cropped to, or ``None``; see ``random_crop``.
    """

    task: Task
    root: str | Path | None
    layout: str
    pairs: str | Path | None
    exclude: Sequence[int | str] | int | str
    prealign: str
    prealign_search: Search
    cache: str | Path | None
    sampling: Sampling
    pseudo_labels: PseudoLabels
    augment: Augment | None
    crop: Sequence[int] | None = None  # checkpoints of earlier builds have no such key

    def __post_init__(self) -> None:
        check_crop(self.crop)
        if self.prealign not in METHODS:
            raise ValueError(
                f"data.prealign must be one of {', '.join(METHODS)}, got {self.prealign!r}"
            )

    @cached_property
    def release(self) -> Release:
        """Release of the task below the data root.

        Raises:
            InputError: If there is none, or ``exclude`` names no scan of it.
        """
        root = self.root or self.task.root or os.environ.get("L2REG_DATA") or "data"
        release = open_release(self.task, _path(root), layout=self.layout, exclude=self.exclude)
        if release.exclude:
            ids, stems = self._known_scans(release)
            check_exclusion(self.exclude, task=self.task.name, ids=ids, stems=stems)
        return release

    @property
    def inputs(self) -> list[Path]:
        """Files and folders that are read."""
        named = (self.pairs, self.pseudo_labels.root)
        return [self.release.folder, *(_path(each) for each in named if each is not None)]

    def keep_known_exclusions(self) -> "Dataset":
        """Return the data set without the entries of ``exclude`` that name none of its scans.

        A checkpoint's entries are those of the data that it was trained on.
        """
        ids, stems = self._known_scans(replace(self, exclude=()).release)
        known: list[Any] = known_entries(self.exclude, ids=ids, stems=stems)
        return replace(self, exclude=known)

    def _known_scans(self, release: Release) -> tuple[set[int], set[str]]:
        """Return the ids and file stems of all scans of a release, on disk or in a pair list."""
        listed = [*release.split_ids("val"), *release.split_ids("test")]
        listed += pair_lists.read_csv(_path(self.pairs)) if self.pairs is not None else []
        return release.known_scans(listed)

    def split_pairs(self, split: str) -> list[Pair]:
        """Return the pairs of ``val`` or ``test``, or those of the list ``data.pairs``.

        Excluded scans are left out.

        Raises:
            InputError: If the split is unknown, or has no pair.
        """
        if split not in ("val", "test"):
            remedy = "use split=val; a list of other pairs is given by data.pairs=FILE"
            raise InputError(
                Problem(
                    where=f"split={split}",
                    what="is no split",
                    expected="val or test",
                    found=split,
                    remedy=remedy,
                )
            )
        pairs = self._official_pairs(split) if self.pairs is None else self._read_pairs(self.pairs)
        kept = [p for p in pairs if not any(map(self.release.is_excluded, (p.fixed, p.moving)))]
        if not kept:
            raise InputError(
                Problem(
                    where=f"split={split} of task {self.task.name}",
                    what="has no pair",
                    expected=f"pairs in {self.release.folder}/pairs_{split}.csv",
                    found=f"{quantity(len(pairs), 'pair')}, {len(pairs) - len(kept)} excluded",
                    remedy="write that file, or choose another list (data.pairs=FILE) or split",
                )
            )
        return kept

    @cached_property
    def training_set(self) -> TrainingSet:
        """Training set: all scans that are neither scored, held out nor excluded.

        An image with the same bytes as a scored one is kept, without its labels and points.
        ``sampling.val_images`` adds the validation pairs in the same way. Neither gets
        pseudo-labels.
        """
        release = self.release
        scored = [*self._official_pairs("val"), *self._official_pairs("test")]
        scored += self._read_pairs(self.pairs) if self.pairs is not None else []
        paths = {scan.image for scan in _unique_scans(scored)}
        names = {pair.name for pair in scored}
        patients = release.intra_patient_pairs()
        in_pairs = {scan.image for scan in _unique_scans(patients)}
        free = [s for s in release.scans() if s.image not in paths and not release.is_held_out(s)]
        images = {scan.image for scan in free}
        intra_patient = [
            pair
            for pair in patients
            if pair.name not in names and {pair.fixed.image, pair.moving.image} <= images
        ]
        scans = [scan for scan in free if scan.image not in in_pairs]
        digests = {content_digest(path) for path in paths if path.is_file()}
        shared = {path for path in images if content_digest(path) in digests}
        if self.sampling.val_images:
            val = self.split_pairs("val")
            shared |= {scan.image for scan in _unique_scans(val)}
            intra_patient += val if self.task.intra_patient else []
            scans += [] if self.task.intra_patient else _unique_scans(val)
        return TrainingSet(
            intra_patient=[
                pair.images_only()
                if {pair.fixed.image, pair.moving.image} & shared
                else replace(
                    pair,
                    fixed=self._with_pseudo_labels(pair.fixed),
                    moving=self._with_pseudo_labels(pair.moving),
                )
                for pair in intra_patient
            ],
            scans=[
                replace(scan, labels=None)
                if scan.image in shared
                else self._with_pseudo_labels(scan)
                for scan in scans
            ],
            evaluation_images=sorted(shared),
        )

    def with_pseudo_labels_only(self, pair: Pair) -> Pair:
        """Return a scored pair without points, and with pseudo-labels, if any, as its labels."""
        images = pair.images_only()
        return replace(
            images,
            fixed=self._with_pseudo_labels(images.fixed),
            moving=self._with_pseudo_labels(images.moving),
        )

    def _with_pseudo_labels(self, scan: Scan) -> Scan:
        return self.pseudo_labels.add_to(scan, self.release.folder)

    @property
    def volume_cache(self) -> Cache:
        """Cache of preprocessed volumes."""
        return Cache(None if self.cache is None else Path(self.cache))

    def reader(self, grid: WorkingGrid) -> PairReader:
        """Return a reader that puts pairs on a working grid."""
        prealign = Prealign(self.prealign, self.prealign_search)
        return PairReader(self.release.task, grid, prealign, self.volume_cache)

    def batches(
        self, grid: WorkingGrid, *, items: range, seed: int, device: torch.device
    ) -> Batches:
        """Return training batches on a working grid.

        Args:
            grid: Working grid.
            items: Numbers of the pairs of a step that a batch holds.
            seed: Seed of the run.
            device: Device on which pairs are augmented and batches are returned.

        Raises:
            InputError: If no source of the sampling has a pair.
        """
        training = self.training_set
        layout = self.release.layout
        modalities = (layout.fixed.modality, layout.moving.modality)
        try:
            pairs = RandomPairs(
                training.intra_patient, training.scans, modalities, self.sampling, seed
            )
        except ValueError as error:
            raise InputError(self._nothing_to_train_on(training)) from error
        return Batches(
            pairs.draw,
            self.reader(grid).read,
            self.augment,
            crop=self.crop,
            items=items,
            n_points=self.sampling.n_points,
            seed=seed,
            device=device,
        )

    def _official_pairs(self, split: str) -> list[Pair]:
        return [self.release.pair(ids) for ids in self.release.split_ids(split)]

    def _read_pairs(self, file: str | Path) -> list[Pair]:
        """Return the pairs of a list.

        Scans beside a list in a folder below the task's take precedence. Every other list is read
        as one in the task's folder.
        """
        path = _path(file)
        near = self.release.subfolder(path.parent)
        return [self.release.pair(ids, near) for ids in pair_lists.read_csv(path)]

    def _nothing_to_train_on(self, training: TrainingSet) -> Problem:
        sources = {s: w for s, w in self.sampling.sources.items() if w > 0}
        return Problem(
            where=f"task {self.task.name}, {self.release.folder}",
            what="has nothing to train on",
            expected=f"pairs of at least one of the sources {sources}",
            found=f"{quantity(len(training.intra_patient), 'pair')} of one patient and "
            f"{quantity(len(training.scans), 'single scan')} outside the scored pairs",
            remedy="download the training scans, or train on the scored images without their "
            "labels: data.sampling.val_images=true",
        )


def _path(path: str | Path) -> Path:
    """Return a path of the config; ``~`` stands for the home folder."""
    return Path(path).expanduser()


def _unique_scans(pairs: Sequence[Pair]) -> list[Scan]:
    return list({scan.image: scan for pair in pairs for scan in (pair.fixed, pair.moving)}.values())
