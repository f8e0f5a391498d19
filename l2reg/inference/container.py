"""Challenge container: register the pairs of a read-only folder, and write their fields.

A pair that cannot be registered gets the zero field and a message; the others are not affected.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from tqdm import tqdm

from l2reg.config.build import build
from l2reg.data import pair_lists
from l2reg.data.cache import Cache
from l2reg.data.layouts import Release
from l2reg.data.pair_lists import IdPair
from l2reg.data.prealign import Prealign
from l2reg.data.reader import PairReader
from l2reg.data.task import Task
from l2reg.inference.predictor import Predictor
from l2reg.inference.prepare import PreparedMethod, prepare_method
from l2reg.inference.serving import PairServer
from l2reg.io.files import load_json
from l2reg.problems import InputError, Problem
from l2reg.submission.bundle import TASK_FOLDERS
from l2reg.submission.fields import to_submission
from l2reg.submission.rules import RULES


def serve_2021(methods: Path, test: Path, out: Path) -> list[str]:
    """Register ``test/task_0T`` into ``out/task_0T`` for every task, and return the faults.

    The device is set up, and the model is loaded and warmed up, before any data of a task are
    read, because the runtime of a pair starts at the first access of its files.

    Args:
        methods: Folder with the files ``task_0T.yaml`` that ``docker/compose.py`` writes.
        test: Folder with ``task_0T/pairs_val.csv`` and the scans in the layout of 2021; only read.
        out: Folder to write to.

    Raises:
        InputError: If a model cannot be loaded, or a field cannot be written.
    """
    server = PairServer(out, RULES["2021"])
    for folder in TASK_FOLDERS:
        if not (methods / f"{folder}.yaml").is_file():
            tqdm.write(f"{folder}: this image has no model for it; skipped")
        elif not (test / folder).is_dir():
            tqdm.write(f"{folder}: not below {test}; skipped")
        else:
            prepared = load_method(methods / f"{folder}.yaml")
            release = _release(prepared, "2021", test / folder)
            predictor = Predictor(prepared.method, _reader_of(prepared, release))
            predictor.warm_up()
            to_submission(torch.zeros(1, 3, *release.task.shape), release.task.shape)
            try:
                ids = release.split_ids("val")  # pairs_val.csv lists the test pairs too
            except InputError as error:
                server.report_fault(f"{folder}: nothing is registered. {error}")
                continue
            server.serve(predictor, release, ids)
    if not server.runtimes and not server.faults:
        server.report_fault(f"{test} holds no task that this image has a model for")
    return server.faults


def serve_current(methods: Path, dataset_json: Path, data: Path, out: Path) -> list[str]:
    """Register the pairs that a ``<Task>_dataset.json`` lists, and return the faults.

    Args:
        methods: See ``serve_2021``.
        dataset_json: File with the lists ``registration_val`` and ``registration_test``; pairs of
            which neither scan exists are skipped.
        data: Folder of the task, with ``imagesTr`` or ``imagesTs``; only read.
        out: Folder to write to.

    Raises:
        InputError: If the json cannot be read or is of a task without a model, a model cannot be
            loaded, or a field cannot be written.
    """
    server = PairServer(out, RULES["current"])
    prepared = _method_for(methods, dataset_json)
    release = _release(prepared, "current", data)
    predictor = Predictor(prepared.method, _reader_of(prepared, release))
    predictor.warm_up()
    pairs: list[IdPair] = []
    for split in ("val", "test"):
        for ids in pair_lists.read_json(dataset_json, f"registration_{split}") or []:
            pair = release.pair(ids)
            if pair.fixed.image.is_file() or pair.moving.image.is_file():
                pairs.append(ids)
            else:
                tqdm.write(f"pair {pair.name_in_layout} of the {split} list: no scan; skipped")
    server.serve(predictor, release, pairs)
    if not server.runtimes:
        server.report_fault(f"{dataset_json} lists no pair whose scans are below {data}")
    return server.faults


def load_method(path: Path) -> PreparedMethod:
    """Return the method that a YAML file of ``docker/compose.py`` describes.

    Raises:
        InputError: If its checkpoint cannot be loaded.
    """
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    config = content["config"]
    if config["ckpt"] is not None:
        config["ckpt"] = str(path.parent / config["ckpt"])
    return prepare_method(config, content["overrides"])


def _release(prepared: PreparedMethod, layout_name: str, folder: Path) -> Release:
    task: Task = build(prepared.config["task"], "task", prepared.config["trust"])
    layout = task.layouts[layout_name]
    return Release(replace(task, shape=layout.shape) if layout.shape else task, layout, folder)


def _reader_of(prepared: PreparedMethod, release: Release) -> partial[PairReader]:
    data = prepared.config["data"]
    search = build(data["prealign_search"], "prealign_search", prepared.config["trust"])
    prealign = Prealign(data["prealign"], search)
    return partial(PairReader, release.task, prealign=prealign, cache=Cache(None))


def _method_for(methods: Path, dataset_json: Path) -> PreparedMethod:
    """Return the method for the task that a dataset json describes."""
    try:
        name = str(load_json(dataset_json)["name"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        expected, found = 'a dataset json with a "name"', f"{type(error).__name__}: {error}"
        remedy = "name the <Task>_dataset.json of the release"
        problem = Problem(
            where=str(dataset_json),
            what="cannot be read",
            expected=expected,
            found=found,
            remedy=remedy,
        )
        raise InputError(problem) from error
    known = {}
    for path in sorted(methods.glob("task_*.yaml")):
        known[yaml.safe_load(path.read_text(encoding="utf-8"))["dataset"]] = path
    if name not in known:
        remedy = "build the image with a model for it: docker/README.md"
        raise InputError(
            Problem(
                where=str(dataset_json),
                what="is of a task that this image has no model for",
                expected=", ".join(known),
                found=name,
                remedy=remedy,
            )
        )
    return load_method(known[name])
