"""Data set of one's own scans: a table, its splits, and the pairs, readers and batches of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import get_args

import torch

from l2reg.data.augment import Augment
from l2reg.data.batches import Batches
from l2reg.data.cache import Cache
from l2reg.data.crop import check_crop
from l2reg.data.dataset import TrainingSet
from l2reg.data.pairs import Pair, PointFiles, Scan, channel_modalities
from l2reg.data.prealign import METHODS, Prealign, Search
from l2reg.data.sampling import RandomPairs, Sampling
from l2reg.data.task import Task
from l2reg.io.scan_source import ScanSource
from l2reg.own_data.own_table import SPLITS, OwnRow, OwnScan, OwnTable, read_own_table
from l2reg.own_data.reader import OwnPairReader
from l2reg.own_data.splits import Splits, split_rows
from l2reg.problems import InputError, Problem, check_seed_value
from l2reg.registration.warp_files import Coordinates
from l2reg.shapes import WorkingGrid
from l2reg.transforms.pair_grid import START_PLACES, StartPlace
from l2reg.wording import quantity

SIDES = ("fixed", "moving")
SINGLE = "scan"  # modality of single scans; those of pairs are the sides
ALL = "all"  # split of all rows, for tables of other data than a network was trained on


@dataclass(frozen=True, kw_only=True)
class OwnDataset:
    """Data of one's own: pairs of scans, or single scans to be paired.

    Attributes:
        task: Shape and spacing of the grid of every pair, and the intensities.
        pairs: CSV file, see ``read_own_table``.
        coordinates: Coordinates of point files: ``ras``, ``lps`` or ``voxels``.
        start: How the scans of a pair lie before it is registered, see ``pair_grids``.
        val_fraction: Fraction of the subjects for validation, if the table names no row ``val``.
        seed: Seed of that choice.
        prealign: Method of prealignment, after ``start``; see ``data.prealign``.
        prealign_search: Search for the map, for methods that need one.
        cache: Folder of preprocessed volumes, or ``None``.
        sampling: Settings of the sampling of training pairs.
        augment: Random transform of training pairs, or ``None``.
        crop: Size of the box that training pairs are cropped to, or ``None``; see ``random_crop``.
    """

    task: Task
    pairs: str | Path | None
    coordinates: str | None
    start: str
    val_fraction: float
    seed: int
    prealign: str
    prealign_search: Search
    cache: str | Path | None
    sampling: Sampling
    augment: Augment | None
    crop: Sequence[int] | None = None  # checkpoints of earlier builds have no such key

    def __post_init__(self) -> None:
        check_crop(self.crop)
        for key, value, known in (
            ("prealign", self.prealign, METHODS),
            ("start", self.start, START_PLACES),
            ("coordinates", self.coordinates, (None, *get_args(Coordinates))),
        ):
            if value not in known:
                names = ", ".join(map(str, known))
                raise ValueError(f"data.{key} must be one of {names}, got {value!r}")
        if not 0 <= self.val_fraction < 1:
            raise ValueError(f"data.val_fraction must be in [0, 1), got {self.val_fraction}")
        check_seed_value("seed", self.seed)

    @cached_property
    def table(self) -> OwnTable:
        """The table.

        Raises:
            InputError: If it is missing or faulty.
        """
        if self.pairs is None:
            raise InputError(_NO_TABLE)
        return read_own_table(Path(self.pairs).expanduser(), self._coordinates)

    @cached_property
    def splits(self) -> Splits:
        """Rows of each split.

        Raises:
            InputError: See ``split_rows``.
        """
        return split_rows(self.table, val_fraction=self.val_fraction, seed=self.seed)

    @property
    def inputs(self) -> list[Path]:
        """Files that are read."""
        return [self.table.path, *(p for s in self.table.scans for p in s.files.paths)]

    def rows(self, split: str) -> Sequence[OwnRow]:
        """Return the rows of ``train``, ``val`` or ``test``, or of ``all`` of the table.

        Raises:
            InputError: If the split is unknown or has no row.
        """
        named: Sequence[OwnRow] = ()
        if split == ALL:
            named = self.table.rows
        elif split in SPLITS:
            named = self.splits.rows[split]
        if not named:
            raise InputError(
                Problem(
                    where=f"split={split} of {self.table.path}",
                    what="has no pair" if split in SPLITS else "is no split",
                    expected=f"rows of one of {', '.join(SPLITS)}; or {ALL}",
                    found=", ".join(f"{len(r)} {name}" for name, r in self.splits.rows.items()),
                    remedy=f"split={ALL} takes all rows of the table; `l2reg train` does without "
                    "validation by trainer.validate_every=0",
                )
            )
        return named

    def split_pairs(self, split: str) -> list[Pair]:
        """Return the pairs of a split, see ``rows``; single scans are paired with the next ones.

        Raises:
            InputError: If there is none.
        """
        return [self.pair(row) for row in self.pair_rows(split)]

    def pair_rows(self, split: str) -> list[OwnRow]:
        """Return a row of two scans for each pair of a split, see ``split_pairs``."""
        rows = self.rows(split)
        return list(rows) if self.table.paired else _pair_with_next(rows)

    @cached_property
    def training_set(self) -> TrainingSet:
        """Training set: the pairs, or single scans, of the split ``train``."""
        rows = self.rows("train")
        if self.table.paired:
            pairs = [self.pair(row) for row in rows]
            return TrainingSet(intra_patient=pairs, scans=[], evaluation_images=[])
        scans = [self._scan(row.scans[0], SINGLE) for row in rows]
        return TrainingSet(intra_patient=[], scans=scans, evaluation_images=[])

    @property
    def volume_cache(self) -> Cache:
        """Cache of preprocessed volumes."""
        return Cache(None if self.cache is None else Path(self.cache))

    @property
    def modalities(self) -> list[list[str]]:
        """Keys of ``Task.intensity`` of the channels of each side, or of single scans."""
        n_further = self.table.n_channels - 1
        sides = SIDES if self.table.paired else (SINGLE,)
        return [[side, *channel_modalities(side, n_further)] for side in sides]

    def reader(self, grid: WorkingGrid) -> OwnPairReader:
        """Return a reader that puts pairs on a working grid."""
        start: StartPlace = "headers" if self.start == "headers" else "centres"
        return OwnPairReader(
            self.task,
            grid,
            Prealign(self.prealign, self.prealign_search),
            self.volume_cache,
            start=start,
            coordinates=self._coordinates,
            n_channels=self.table.n_channels,
        )

    def batches(
        self, grid: WorkingGrid, *, items: range, seed: int, device: torch.device
    ) -> Batches:
        """Return training batches on a working grid, see ``Dataset.batches``.

        Raises:
            InputError: If there is nothing to train on.
        """
        training = self.training_set
        try:
            pairs = RandomPairs(
                training.intra_patient, training.scans, (SINGLE, SINGLE), self.sampling, seed
            )
        except ValueError as error:
            raise InputError(self._nothing_to_train_on()) from error
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

    def pair(self, row: OwnRow) -> Pair:
        """Return the pair of a row of two scans."""
        kinds = SIDES if self.table.paired else (SINGLE, SINGLE)
        fixed, moving = (self._scan(s, kind) for s, kind in zip(row.scans, kinds, strict=True))
        paths = [scan.files.points for scan in row.scans]
        points = None if None in paths else PointFiles(tuple(p for p in paths if p is not None))
        return Pair(
            fixed=fixed, moving=moving, keypoints=points, landmarks=points, given_name=row.name
        )

    def _scan(self, scan: OwnScan, modality: str) -> Scan:
        number = self._numbers[scan.files.image]
        return Scan(
            id=number,
            official_id=number,
            modality=modality,
            image=scan.image,
            labels=scan.files.labels,
            mask=scan.files.mask,
            subject=scan.subject,
            volume=scan.files.image.volume,
            channels=scan.files.channels,
        )

    @cached_property
    def _numbers(self) -> dict[ScanSource, int]:
        """Number of each scan."""
        sources = dict.fromkeys(scan.files.image for scan in self.table.scans)
        return {source: number for number, source in enumerate(sources, start=1)}

    @property
    def _coordinates(self) -> Coordinates | None:
        return next((known for known in get_args(Coordinates) if known == self.coordinates), None)

    def _nothing_to_train_on(self) -> Problem:
        n = len(self.splits.rows["train"])
        return Problem(
            where=str(self.table.path),
            what="has nothing to train on",
            expected="pairs, or single scans of two people, of the split train",
            found=f"{quantity(n, 'row')} of the split train",
            remedy="add rows, or keep fewer for validation: data.val_fraction=0.1",
        )


_NO_TABLE = Problem(
    where="task=own",
    what="does not know which scans",
    expected="data.pairs=my.csv, a table of pairs or scans",
    found="no data.pairs",
    remedy="write a table with the columns fixed,moving (docs/own_data.md)",
)


def _pair_with_next(rows: Sequence[OwnRow]) -> list[OwnRow]:
    """Return each scan with the next one of somebody else, the last one with the first ones."""
    pairs = []
    for n, row in enumerate(rows):
        others = [*rows[n + 1 :], *rows[:n]]
        following = next((o for o in others if o.subjects != row.subjects), None)
        if following is not None:
            name = f"{row.name}_{following.name}"
            pairs.append(OwnRow(name, (*row.scans, *following.scans), row.split))
    return pairs
