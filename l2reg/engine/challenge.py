"""Serve the organisers' container: pairs in a read-only folder, fields out, whatever is in there.

A pair that cannot be registered gets the zero field and a line; the others are not affected.
"""

import csv
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from tqdm import tqdm

from l2reg.config import build
from l2reg.data import pair_lists
from l2reg.data.cache import Cache
from l2reg.data.cases import Pair, Scan
from l2reg.data.layouts import Release
from l2reg.data.pair_lists import IdPair
from l2reg.data.prealign import Prealign
from l2reg.data.reader import PairReader
from l2reg.data.task import Task
from l2reg.data.volumes import read_grid
from l2reg.engine.method import Method, prepare_method
from l2reg.evaluation.rules import RULES, Rules
from l2reg.files import written_whole
from l2reg.inference.export import export_field
from l2reg.inference.predictor import Predictor
from l2reg.problems import InputError, Problem
from l2reg.shapes import Field
from l2reg.submission.bundle import TASK_FOLDERS
from l2reg.submission.fields import to_submission

RUNTIME = "runtime.csv"


@dataclass(frozen=True)
class Served:
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


class Service:
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
        self.served: list[Served] = []
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
            disp = torch.zeros(1, 3, *task.grid)
            registered_at = time.perf_counter()
        export_field(disp, pair, task, self.out, self.rules)
        done_at = time.perf_counter()
        served = Served(
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
        names = [field.name for field in fields(Served)]
        path = self.out / RUNTIME
        with written_whole(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            for served in self.served:
                row = asdict(served)
                writer.writerow(row | {name: f"{row[name]:.4f}" for name in names[2:6]})


def serve_2021(methods: Path, test: Path, out: Path) -> list[str]:
    """Register ``test/task_0T`` into ``out/task_0T`` for every task, and return the faults.

    Everything that can be done without the data of a task is done before they are touched: the
    device is set up, the model loaded and warmed up.

    Args:
        methods: Folder of ``task_0T.yaml``, as ``docker/compose.py`` writes them.
        test: Holds ``task_0T/pairs_val.csv`` and the scans in the layout of 2021; only read.
        out: Where to.

    Raises:
        InputError: If a model is unusable, or a field cannot be written.
    """
    service = Service(out, RULES["2021"])
    for folder in TASK_FOLDERS:
        if not (methods / f"{folder}.yaml").is_file():
            tqdm.write(f"{folder}: this image has no model for it; skipped")
        elif not (test / folder).is_dir():
            tqdm.write(f"{folder}: not below {test}; skipped")
        else:
            method = load_method(methods / f"{folder}.yaml")
            release = _release(method, "2021", test / folder)
            predictor = method.predictor(_reader_of(method, release))
            predictor.warm_up()
            to_submission(torch.zeros(1, 3, *release.task.grid), release.task.grid)
            try:
                listed = release.ids_of("val")  # pairs_val.csv, for the test scans too
            except InputError as error:
                service.fault(f"{folder}: nothing is registered. {error}")
                continue
            service.serve(predictor, release, listed)
    if not service.served and not service.faults:
        service.fault(f"{test} holds no task that this image has a model for")
    return service.faults


def serve_current(methods: Path, dataset_json: Path, data: Path, out: Path) -> list[str]:
    """Register the pairs that a ``<Task>_dataset.json`` lists, and return the faults.

    Args:
        methods: See ``serve_2021``.
        dataset_json: With the lists ``registration_val`` and ``registration_test``; pairs without
            any scan are skipped.
        data: The task's folder, with ``imagesTr`` or ``imagesTs``; only read.
        out: Where to.

    Raises:
        InputError: Likewise, or if the task is unknown or nothing is listed.
    """
    service = Service(out, RULES["current"])
    method = _method_for(methods, dataset_json)
    release = _release(method, "current", data)
    predictor = method.predictor(_reader_of(method, release))
    predictor.warm_up()
    listed: list[IdPair] = []
    for split in ("val", "test"):
        for ids in pair_lists.read_json(dataset_json, f"registration_{split}") or []:
            pair = release.pair(ids)
            if pair.fixed.image.is_file() or pair.moving.image.is_file():
                listed.append(ids)
            else:
                tqdm.write(f"pair {pair.name_in_layout} of the {split} list: no scan; skipped")
    service.serve(predictor, release, listed)
    if not service.served:
        service.fault(f"{dataset_json} lists no pair whose scans are below {data}")
    return service.faults


def load_method(path: Path) -> Method:
    """Return the method that a YAML file of ``docker/compose.py`` describes.

    Raises:
        InputError: If its checkpoint is unusable.
    """
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    config = content["config"]
    if config["ckpt"] is not None:
        config["ckpt"] = str(path.parent / config["ckpt"])
    return prepare_method(config, content["overridden"])


def check_grids(pair: Pair, task: Task) -> None:
    """Raise ``InputError`` unless all scans and masks have the task's shape; reads headers alone.

    Images that are read are resized to the working grid, whatever their shape.
    """
    files = [pair.fixed.image, pair.moving.image, pair.fixed.mask, pair.moving.mask]
    for path in files:
        if path is not None and (shape := read_grid(path).shape) != task.grid:
            found, remedy = f"{shape}", "resample it to the task's grid"
            raise InputError(
                Problem(str(path), "has another shape", f"{task.grid} voxels", found, remedy)
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


def _release(method: Method, layout_name: str, folder: Path) -> Release:
    task: Task = build(method.config["task"])
    layout = task.layouts[layout_name]
    return Release(replace(task, shape=layout.shape) if layout.shape else task, layout, folder)


def _reader_of(method: Method, release: Release) -> partial[PairReader]:
    data = method.config["data"]
    prealign = Prealign(data["prealign"], build(data["prealign_search"]))
    return partial(PairReader, release.task, prealign=prealign, cache=Cache(None))


def _method_for(methods: Path, dataset_json: Path) -> Method:
    """Return the method of the task that a dataset json describes."""
    try:
        name = json.loads(dataset_json.read_text(encoding="utf-8"))["name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        expected, found = 'a dataset json with a "name"', f"{type(error).__name__}: {error}"
        remedy = "name the <Task>_dataset.json of the release"
        problem = Problem(str(dataset_json), "cannot be read", expected, found, remedy)
        raise InputError(problem) from error
    known = {}
    for path in sorted(methods.glob("task_*.yaml")):
        known[yaml.safe_load(path.read_text(encoding="utf-8"))["dataset"]] = path
    if name not in known:
        remedy = "build the image with a model for it: docker/README.md"
        raise InputError(
            Problem(
                str(dataset_json),
                "is of a task without a model here",
                ", ".join(known),
                name,
                remedy,
            )
        )
    return load_method(known[name])
