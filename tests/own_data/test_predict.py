import csv
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from scipy.ndimage import map_coordinates

from l2reg.own_data.predict import (
    predict_own,
    prepare_own_prediction,
)
from l2reg.own_data.recognise import is_own_data
from l2reg.problems import InputError
from l2reg.registration.result import Registration
from l2reg.registration.result_page import write_result_page
from l2reg.training.setup import prepare_training

Own = SimpleNamespace
Run = Callable[..., dict[str, Any]]

COLUMNS = (
    "fixed,moving,fixed_labels,moving_labels,fixed_points,moving_points,subject,split,moving_mask\n"
)
PAIR = "f.nii.gz,m.nii.gz,seg_f.nii.gz,seg_m.nii.gz,f.csv,m.csv,{},{},\n"


def predicted(config: dict[str, Any], keys: list[str]) -> list[dict[str, str]]:
    job = prepare_own_prediction(config, keys)
    predict_own(job, {"command": "l2reg predict"})
    with (job.out / "results.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
@pytest.mark.usefixtures("two_headers")
def test_two_headers_of_one_anatomy_have_no_displacement_and_no_error(
    own_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def write(path: Path, result: Registration, *files: Any, **details: Any) -> None:
        drawn.append(result)
        write_result_page(path, result, *files, **details)

    monkeypatch.setattr("l2reg.own_data.predict.write_result_page", write)
    Path("own.csv").write_text(COLUMNS + PAIR.format("a", "val"))
    config = own_run("predict", "model=zero", "data.coordinates=ras", "out=out")
    assert is_own_data(config)
    (row,) = predicted(config, ["model", "task", "data.pairs"])
    assert row["status"] in ("ok", "flagged"), row["error"]
    disp = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage("out/pair_001/transform.nii.gz"))
    assert disp.shape[:3] == (20, 36, 34)
    page = Path("out/report.html").read_text()
    assert page.count("<h3>Pair pair_001</h3>") == 1
    assert "<a href='pair_001/report.html'>" in page
    assert "<td>label 1</td>" in Path("out/pair_001/report.html").read_text()
    assert np.abs(disp).max() < 1e-4
    assert float(row["tre_mm_before"]) == float(row["tre_mm_after"]) == 0
    assert row["dice_before"] == row["dice_after"]
    (result,) = drawn
    assert result.picture.fixed.shape == result.picture_grid.shape
    scan = nib.load("f.nii.gz")
    voxels = np.linalg.inv(scan.affine) @ result.picture_grid.place.affine
    positions = nib.affines.apply_affine(voxels, np.indices(result.picture_grid.shape).T).T
    expected = map_coordinates(scan.get_fdata(), positions, order=1, mode="constant")
    shown = result.picture.fixed > 0
    assert np.corrcoef(expected[shown], result.picture.fixed[shown])[0, 1] > 0.95


@pytest.mark.slow
@pytest.mark.usefixtures("two_headers")
@pytest.mark.parametrize("start", ["headers", "centres"])
def test_a_trained_run_writes_what_itk_resamples_to_the_same_voxels(
    own: Own, own_run: Run, start: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shape, affine = own.moving
    own.write("n.nii.gz", shape, affine, lambda p: p + np.array([[2.0], [0], [0]]))
    other_header = own.header((22, 30, 24), (1.5, 1.2, 1.6), "SPR", (2, 9, 4))
    own.write("g.nii.gz", (22, 30, 24), other_header)
    nib.save(nib.Nifti1Image(np.ones(shape, np.uint8), affine), "mask.nii.gz")
    other = "g.nii.gz,n.nii.gz,seg_g.nii.gz,seg_n.nii.gz,,,b,train,mask.nii.gz\n"
    Path("own.csv").write_text(COLUMNS + PAIR.format("a", "val") + other)
    chosen = ["data.coordinates=ras", f"data.start={start}"]
    prepare_training(own_run("train", *chosen)).run()
    said = capsys.readouterr().out
    assert "own.csv: pairs: 1 train, 1 val; on grids of 16 x 18 x 14 voxels of 2 x 2 x 3 mm" in said
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert {"val/dsc", "val/tre_mm"} <= set(lines[-1])
    assert all(np.isfinite(line["train/dice"]) for line in lines[:-1])

    config = own_run("predict", "ckpt=run", "split=all", "save=[inverse,initial,deformable]")
    assert is_own_data(config | {"data": {"_target_": "any"}})
    rows = predicted(config, ["ckpt", "split", "save", "task"])
    assert [row["name"] for row in rows] == ["pair_001", "pair_002"]
    assert {row["status"] for row in rows} <= {"ok", "flagged"}, rows
    assert "note: trained on 1 of 2 pairs: their scores are an overfit check" in (
        capsys.readouterr().out
    )
    folder = Path("run/predict_all/pair_002")
    assert {path.name for path in folder.iterdir()} == {
        "warped.nii.gz", "transform.nii.gz", "picture.png", "registration.json",
        "inverse.nii.gz", "initial.mat", "deformable.nii.gz", "report.html",
    }  # fmt: skip
    field = SimpleITK.ReadImage(str(folder / "transform.nii.gz"), SimpleITK.sitkVectorFloat64)
    transform = SimpleITK.DisplacementFieldTransform(field)
    fixed, moving = (
        SimpleITK.ReadImage(n, SimpleITK.sitkFloat64) for n in ("g.nii.gz", "n.nii.gz")
    )
    resampled = SimpleITK.Resample(moving, fixed, transform, SimpleITK.sitkLinear, -1024.0)
    expected = SimpleITK.GetArrayFromImage(resampled).T
    warped = nib.load(folder / "warped.nii.gz")
    np.testing.assert_allclose(warped.affine, nib.load("g.nii.gz").affine, atol=1e-6)
    difference = np.abs(warped.get_fdata() - expected)
    assert np.quantile(difference, 0.999) < 0.1
    assert (difference > 1).mean() < 1e-3  # voxels at the very end of the scan
    assert json.loads((folder / "registration.json").read_text())["scores"]["after"]["dice"]


@pytest.mark.slow
@pytest.mark.usefixtures("two_headers")
def test_a_pair_that_fails_costs_no_other_and_says_why(own: Own, own_run: Run) -> None:
    far = own.header((18, 18, 18), (1.0, 1.0, 1.0), centre=(300.0, 0.0, 0.0))
    own.write("far.nii.gz", (18, 18, 18), far, lambda p: p - np.array([[300.0], [0], [0]]))
    Path("own.csv").write_text("fixed,moving\nf.nii.gz,far.nii.gz\nf.nii.gz,m.nii.gz\n")
    chosen = ["model=zero", "out=out", "split=all"]
    with pytest.raises(InputError, match=r"(?s)pair_001: has scans that hardly overlap.*centres"):
        prepare_own_prediction(own_run("predict", *chosen), ["model", "task"])
    assert not Path("out").exists()
    job = prepare_own_prediction(own_run("predict", *chosen, "data.start=centres"), ["model"])
    Path("far.nii.gz").write_bytes(b"no scan")
    summary = predict_own(job)
    assert str(summary).startswith("1 registered, ")
    assert str(summary).endswith("1 failed")
    assert not Path("out/pair_001").exists() or not list(Path("out/pair_001").iterdir())
    assert "far.nii.gz" in Path("out/results.csv").read_text().splitlines()[1]


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        (["save=[grid]"], r"(?s)save=\['grid'\]: names an unknown output.*inverse, jacobian"),
        (["rules=current"], "rules=current: is for submissions to the challenge"),
        (["split=tset"], "(?s)split=tset of own.csv: is no split.*split=all takes all rows"),
        (["split=test"], "(?s)split=test of own.csv: has no pair.*1 train"),
        (["data.pairs=null"], "task=own: does not know which scans"),
        (["data.pairs=none.csv"], "none.csv: cannot be read as a table of scans"),
        (["data.start=middle"], "data.start must be one of headers, centres, got 'middle'"),
        (["data.coordinates=mm"], "data.coordinates must be one of None, ras, lps, voxels"),
    ],
)
def test_options_that_mean_nothing_here_are_refused(
    own_run: Run, chosen: list[str], said: str
) -> None:
    Path("own.csv").write_text("fixed,moving,split\na,b,train\nc,d,val\n")
    config = own_run("predict", "model=zero", *chosen)
    with pytest.raises(InputError, match=said):
        prepare_own_prediction(config, ["model", *(text.split("=")[0] for text in chosen)])


@pytest.mark.slow
@pytest.mark.usefixtures("two_headers")
def test_a_network_of_two_channels_is_trained_and_predicts(own_run: Run) -> None:
    table = "fixed,moving,fixed_channel,moving_channel,subject,split\n"
    row = "f.nii.gz,m.nii.gz,{},{},{},{}\n"
    for name in "fm":  # the other contrast
        scan = nib.load(f"{name}.nii.gz")
        nib.save(nib.Nifti1Image(-np.asarray(scan.dataobj), scan.affine), f"{name}2.nii.gz")
    Path("own.csv").write_text(
        table + row.format("f2.nii.gz", "m2.nii.gz", "a", "train")
        + row.format("f2.nii.gz", "m2.nii.gz", "", "val")
    )  # fmt: skip
    config = own_run("train", "model.scan_channels=2", "trainer.symmetric=true")
    window = {"_target_": "l2reg.data.intensity.Window", "low": -600.0, "high": 1000.0}
    config["task"]["intensity"] |= {"fixed_channel_1": window, "moving_channel_1": window}
    prepare_training(config).run()
    config = own_run("predict", "ckpt=run", "out=out")
    (result,) = predicted(config, [])
    assert result["status"] in ("ok", "flagged"), result["error"]
    Path("own.csv").write_text("fixed,moving\nf.nii.gz,m.nii.gz\n")
    with pytest.raises(InputError, match="another number of channels than the network takes"):
        prepare_own_prediction(own_run("predict", "ckpt=run", "split=all", "out=more"), [])
