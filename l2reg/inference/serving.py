"""Register pairs one by one for the organisers' container, with the runtime of each.

A pair that cannot be registered gets the zero field and a line; the others are not affected.
"""

import csv
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from tqdm import tqdm

from l2reg.data.layouts import Release
from l2reg.data.pair_lists import IdPair
from l2reg.data.pairs import Pair, Scan
from l2reg.data.task import Task
from l2reg.inference.predictor import Predictor
from l2reg.io.files import atomic_write
from l2reg.io.volumes import read_header
from l2reg.problems import InputError, Problem
from l2reg.shapes import Field
from l2reg.submission.export import export_field
from l2reg.submission.rules import Rules

RUNTIME = "runtime.csv"


@dataclass(frozen=True)
class PairRuntime:
    """The seconds that one pair took, from the first access of its files on.

    Attributes:
        task: Folder of the task in a submission of 2021.
        pair: Name of the pair.
        reading: Files to working grids, on the device.
        registering: The field.
        writing: Its form of the challenge, and the file.
        seconds: All of them.
        fault: What was wrong, on one line; the field is zero then.
    """

    task: str
    pair: str
    reading: float
    registering: float
    writing: float
    seconds: float
    fault: str


class PairServer:
    """Writes the fields of pairs below a folder, and ``runtime.csv`` after every pair.

    Args:
        out: Folder to write to; that it can be written to is found out now.
        rules: Whose form the fields have.

    Raises:
        InputError: If it cannot.
    """

    def __init__(self, out: Path, rules: Rules) -> None:
        self.out = out
        self.rules = rules
        self.served: list[PairRuntime] = []
        self.faults: list[str] = []
        self._write_runtimes()
        for left in out.rglob(".part_*"):  # of a run that was killed
            left.unlink()
        if not torch.cuda.is_available():
            tqdm.write("!!! no GPU is visible: everything is computed on the CPU, which is slow")

    def serve(self, predictor: Predictor, release: Release, listed: Sequence[IdPair]) -> None:
        """Register the pairs of one task, one after the other.

        Raises:
            InputError: If a field cannot be written.
        """
        for ids in listed:
            self._serve_pair(predictor, release, ids)
            self._write_runtimes()

    def fault(self, text: str) -> None:
        """Say loudly what is wrong, and remember it."""
        self.faults.append(text)
        tqdm.write(f"!!! {text}")

    def _serve_pair(self, predictor: Predictor, release: Release, ids: IdPair) -> None:
        task = release.task
        pair, what = _bare_pair(release, ids), ""
        started_at = read_at = registered_at = time.perf_counter()
        try:
            pair = release.pair(ids)
            check_grids(pair, task)
            batches = predictor.read(pair)
            read_at = time.perf_counter()
            disp = _finite(predictor.solve(batches))
            registered_at = time.perf_counter()
        except Exception as error:  # whatever it is, the other pairs must not suffer
            what = " ".join(f"{type(error).__name__}: {error}".split())
            self.fault(f"{task.folder} pair {pair.name} gets the zero field. {what}")
            disp = torch.zeros(1, 3, *task.shape)
            registered_at = time.perf_counter()
        export_field(disp, pair, task, self.out, self.rules)
        done_at = time.perf_counter()
        served = PairRuntime(
            task=task.folder,
            pair=pair.name,
            reading=read_at - started_at,
            registering=registered_at - read_at,
            writing=done_at - registered_at,
            seconds=done_at - started_at,
            fault=what,
        )
        self.served.append(served)
        tqdm.write(
            f"{served.task} {served.pair}  {served.seconds:.2f} s (reading {served.reading:.2f}, "
            f"registering {served.registering:.2f}, writing {served.writing:.2f})"
        )

    def _write_runtimes(self) -> None:
        names = [field.name for field in fields(PairRuntime)]
        path = self.out / RUNTIME
        with atomic_write(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            for served in self.served:
                row = asdict(served)
                writer.writerow(row | {name: f"{row[name]:.4f}" for name in names[2:6]})


def check_grids(pair: Pair, task: Task) -> None:
    """Raise ``InputError`` unless all scans and masks have the task's shape; reads headers alone.

    Images that are read are resized to the working grid, whatever their shape.
    """
    files = [pair.fixed.image, pair.moving.image, pair.fixed.mask, pair.moving.mask]
    for path in files:
        if path is not None and (shape := read_header(path).shape) != task.shape:
            found, remedy = f"{shape}", "resample it to the task's grid"
            raise InputError(
                Problem(
                    where=str(path),
                    what="has another shape",
                    expected=f"{task.shape} voxels",
                    found=found,
                    remedy=remedy,
                )
            )


def _finite(disp: Field) -> Field:
    if not bool(torch.isfinite(disp).all()):  # also waits for the GPU
        raise FloatingPointError("the field has values that are not numbers")
    return disp


def _bare_pair(release: Release, ids: IdPair) -> Pair:
    """Return a pair that has names but no files."""
    fixed, moving = (
        Scan(
            id=number,
            official_id=release.layout.official_id(number),
            modality=kind.modality,
            image=release.folder,
            labels=None,
            mask=None,
        )
        for kind, number in zip((release.layout.fixed, release.layout.moving), ids, strict=True)
    )
    return Pair(fixed=fixed, moving=moving)
