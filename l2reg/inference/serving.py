"""Pair server of the challenge container: register pairs one by one, and write their runtimes.

A pair that cannot be registered gets the zero field and a message; the others are not affected.
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
    """Runtime of one pair in seconds, from the first access of its files on.

    Attributes:
        task: Folder name of the task in a submission of 2021.
        pair: Name of the pair.
        reading: Time to read the files onto the working grids, on the device.
        registering: Time to compute the field.
        writing: Time to convert the field to the form of the challenge and to write it.
        seconds: Sum of the three.
        fault: The fault, on one line, for which the zero field was written; else empty.
    """

    task: str
    pair: str
    reading: float
    registering: float
    writing: float
    seconds: float
    fault: str


class PairServer:
    """Registers pairs, and writes each field and ``runtime.csv`` after every pair.

    Args:
        out: Folder to write to.
        rules: The rules that give the form of the fields.

    Attributes:
        runtimes: The runtimes of the pairs so far.
        faults: The faults so far, each on one line.

    Raises:
        InputError: If ``out`` cannot be written to.
    """

    def __init__(self, out: Path, rules: Rules) -> None:
        self.out = out
        self.rules = rules
        self.runtimes: list[PairRuntime] = []
        self.faults: list[str] = []
        self._write_runtimes()
        if not torch.cuda.is_available():
            tqdm.write("!!! no GPU is visible: everything is computed on the CPU, which is slow")

    def serve(self, predictor: Predictor, release: Release, pairs: Sequence[IdPair]) -> None:
        """Register the pairs of one task, one after the other.

        Raises:
            InputError: If a field cannot be written.
        """
        for ids in pairs:
            self._serve_pair(predictor, release, ids)
            self._write_runtimes()

    def report_fault(self, text: str) -> None:
        """Print a fault, and add it to ``faults``."""
        self.faults.append(text)
        tqdm.write(f"!!! {text}")

    def _serve_pair(self, predictor: Predictor, release: Release, ids: IdPair) -> None:
        task = release.task
        pair, fault = _pair_without_files(release, ids), ""
        started_at = read_at = registered_at = time.perf_counter()
        try:
            pair = release.pair(ids)
            check_grids(pair, task)
            batches = predictor.read(pair)
            read_at = time.perf_counter()
            disp = _check_finite(predictor.solve(batches))
            registered_at = time.perf_counter()
        except Exception as error:  # of any kind: the other pairs must still be registered
            fault = " ".join(f"{type(error).__name__}: {error}".split())
            self.report_fault(f"{task.folder} pair {pair.name} gets the zero field. {fault}")
            disp = torch.zeros(1, 3, *task.shape)
            registered_at = time.perf_counter()
        export_field(disp, pair, task, self.out, self.rules)
        done_at = time.perf_counter()
        runtime = PairRuntime(
            task=task.folder,
            pair=pair.name,
            reading=read_at - started_at,
            registering=registered_at - read_at,
            writing=done_at - registered_at,
            seconds=done_at - started_at,
            fault=fault,
        )
        self.runtimes.append(runtime)
        tqdm.write(
            f"{runtime.task} {runtime.pair}  {runtime.seconds:.2f} s "
            f"(reading {runtime.reading:.2f}, registering {runtime.registering:.2f}, "
            f"writing {runtime.writing:.2f})"
        )

    def _write_runtimes(self) -> None:
        names = [field.name for field in fields(PairRuntime)]
        path = self.out / RUNTIME
        with (
            atomic_write(path) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            for runtime in self.runtimes:
                row = asdict(runtime)
                writer.writerow(row | {name: f"{row[name]:.4f}" for name in names[2:6]})


def check_grids(pair: Pair, task: Task) -> None:
    """Raise ``InputError`` unless all scans and masks have the task's shape; only reads headers.

    Without this check a scan of another shape would be resized to the working grid unnoticed.
    """
    files = [pair.fixed.image, pair.moving.image, pair.fixed.mask, pair.moving.mask]
    for path in files:
        if path is not None and (shape := read_header(path).shape) != task.shape:
            found, remedy = f"{shape}", "resample it to the task's grid"
            raise InputError(
                Problem(
                    where=str(path),
                    what="has another shape than its task",
                    expected=f"{task.shape} voxels",
                    found=found,
                    remedy=remedy,
                )
            )


def _check_finite(disp: Field) -> Field:
    """Return the field unchanged; raise if it has values that are not finite."""
    if not bool(torch.isfinite(disp).all()):  # also waits for the GPU
        raise FloatingPointError("the field has values that are not numbers")
    return disp


def _pair_without_files(release: Release, ids: IdPair) -> Pair:
    """Return a pair with the names of ``ids`` but without files."""
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
