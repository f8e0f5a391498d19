import csv
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from l2reg.data.dataset import Dataset
from l2reg.inference.container import load_method, serve_2021
from l2reg.inference.predictor import Predictor
from l2reg.inference.serving import PairServer
from l2reg.phantom.make import phantom_task
from l2reg.problems import InputError
from l2reg.submission.fields import read_field
from l2reg.submission.rules import RULES

GRID = (72, 64, 80)


def field_of(out: Path, pair: str) -> np.ndarray:
    path = out / f"task_02/disp_{pair}.npz"
    return read_field(path.read_bytes(), str(path), GRID)


def runtimes(out: Path) -> list[dict[str, str]]:
    with (out / "runtime.csv").open() as file:
        return list(csv.DictReader(file))


def test_runtimes_are_kept_for_every_pair(methods: Path, lungs: Path) -> None:
    serve_2021(methods, lungs, Path("out"))
    rows = runtimes(Path("out"))
    assert [row["pair"] for row in rows] == ["0001_0001", "0002_0002", "0003_0003"]
    for row in rows:
        parts = [float(row[name]) for name in ("reading", "registering", "writing")]
        assert min(parts) > 0
        assert abs(sum(parts) - float(row["seconds"])) < 1e-3


def break_scan(lungs: Path, how: str) -> None:
    scan = lungs / "task_02/training/scans/case_002_insp.nii.gz"
    mask = lungs / "task_02/training/lungMasks/case_002_insp.nii.gz"
    image = nib.load(scan)
    if how == "missing":
        scan.unlink()
    elif how == "truncated":
        scan.write_bytes(scan.read_bytes()[:1000])
    elif how == "NaN":
        voxels = image.get_fdata(dtype=np.float32)
        voxels[3, 4, 5] = np.nan
        nib.save(nib.Nifti1Image(voxels, image.affine), scan)
    elif how == "shape":
        nib.save(nib.Nifti1Image(np.zeros((72, 64, 78), np.int16), image.affine), scan)
    elif how == "empty mask":
        nib.save(nib.Nifti1Image(np.zeros(GRID, np.uint8), image.affine), mask)
    elif how == "twice":
        shutil.copy(scan, scan.parents[2] / "case_002_insp.nii.gz")
        (scan.parents[1] / "more/scans").mkdir(parents=True)
        shutil.copy(scan, scan.parents[1] / "more/scans")


@pytest.mark.parametrize(
    ("how", "words"),
    [("missing", "is missing"), ("truncated", "cannot be read"), ("NaN", "not numbers"),
     ("shape", "(72, 64, 78)"), ("empty mask", "is an empty mask"), ("twice", "more than once")],
)  # fmt: skip
def test_a_pair_that_cannot_be_read_costs_no_other(
    methods: Path, lungs: Path, how: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    break_scan(lungs, how)
    (fault,) = serve_2021(methods, lungs, Path("out"))
    assert "task_02 pair 0002_0002 gets the zero field" in fault
    assert words in fault
    assert f"!!! {fault}" in capsys.readouterr().out
    assert (field_of(Path("out"), "0002_0002") == 0).all()
    for pair in ("0001_0001", "0003_0003"):
        assert np.abs(field_of(Path("out"), pair)).max() > 1
    assert [bool(row["fault"]) for row in runtimes(Path("out"))] == [False, True, False]


def test_a_method_that_fails_on_one_pair_costs_no_other(
    methods: Path, lungs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    solve, calls = Predictor.solve, []

    def failing(self: Predictor, batches: list[dict[str, torch.Tensor]]) -> torch.Tensor:
        calls.append(1)
        disp = solve(self, batches)
        return {1: disp, 2: disp / 0}.get(len(calls)) if len(calls) < 3 else 1 / 0

    monkeypatch.setattr(Predictor, "solve", failing)
    nan, error = serve_2021(methods, lungs, Path("out"))
    assert "values that are not numbers" in nan
    assert "ZeroDivisionError" in error
    assert np.abs(field_of(Path("out"), "0001_0001")).max() > 1


def test_a_full_disk_ends_it_and_is_said_as_such(
    methods: Path,
    lungs: Path,
    open_data: Callable[..., Dataset],
    full_disk: Callable[[str], None],
) -> None:
    service = PairServer(Path("out"), RULES["2021"])
    Path("out/task_02").mkdir()
    full_disk("disp_0001_0001.npz")
    prepared = load_method(methods / "task_02.yaml")
    data = open_data(phantom_task("lung", "small", 0, 3, root=lungs))
    with pytest.raises(InputError, match="the disk is full"):
        service.serve(Predictor(prepared.method, data.reader), data.release, [(1, 1)])
    assert list(Path("out/task_02").iterdir()) == []


def test_what_a_killed_run_left_behind_is_removed(methods: Path, lungs: Path) -> None:
    Path("out/task_02").mkdir(parents=True)
    left = Path("out/task_02/.part_disp_0009_0009.npz")
    left.write_text("half a field")
    os.utime(left, (0, 0))
    serve_2021(methods, lungs, Path("out"))
    assert not list(Path("out").rglob(".part_*"))
