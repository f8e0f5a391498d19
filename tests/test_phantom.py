import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from l2reg.cli.datasets import tasks_below
from l2reg.cli.phantom import add_arguments
from l2reg.config.presets import CHALLENGE_TASKS
from l2reg.data.dataset import Dataset
from l2reg.evaluation.metrics import tre_mm, warp_labels
from l2reg.geometry.jacobian import jacobian_determinant
from l2reg.geometry.warp import warp
from l2reg.io.output_folders import OutputKind, claim_output_folder
from l2reg.io.points import read_points
from l2reg.phantom.canvas import Canvas, ellipsoid, grid_points, tree, tubes
from l2reg.phantom.make import FLAVOURS, SIZES, SMALL_SHAPES, make_phantom, phantom_task
from l2reg.phantom.motion import MIN_DETERMINANT, random_field, without_folds
from l2reg.phantom.writer import Writer
from l2reg.problems import InputError

FOLDERS = {"lung": "task_02", "abdomen": "task_01", "oasis": "task_03"}
VAL = {"lung": "0001_0001", "abdomen": "0006_0006", "oasis": "0438_0439"}


def truth(root: Path, flavour: str, pair: str) -> np.ndarray:
    path = root / FOLDERS[flavour] / f"truth/disp_{pair}.npz"
    return np.load(path)["arr_0"].astype(np.float32)


@pytest.mark.parametrize("flavour", ["lung", "abdomen", "oasis"])
def test_the_true_field_brings_the_anatomy_together(
    phantoms: dict[str, Path], open_data: Callable[..., Dataset], flavour: str
) -> None:
    task = phantom_task(flavour, "small", 0, 3, root=phantoms[flavour])
    data = open_data(task)
    pair = data.split_pairs("val")[0]
    assert pair.name == VAL[flavour]
    sample = data.reader("full").read(pair)
    disp = torch.from_numpy(truth(phantoms[flavour], flavour, pair.name))[None]
    before, after = sample["moving"], warp(sample["moving"], disp)
    if flavour == "abdomen":  # other modality: compare the organs
        fixed = sample["fixed_labels"][0, 0].numpy()
        moved = warp_labels(sample["moving_labels"][0, 0].numpy(), disp[0].numpy())
        still = sample["moving_labels"][0, 0].numpy()
        organ = fixed == 1
        assert (moved == 1)[organ].mean() > 0.93 > (still == 1)[organ].mean() + 0.05
    else:
        smooth = [gaussian_filter(v[0, 0].numpy(), 0.8) for v in (sample["fixed"], before, after)]
        correlation = [np.corrcoef(smooth[0].ravel(), v.ravel())[0, 1] for v in smooth[1:]]
        assert correlation[1] > 0.98 > correlation[0] + 0.02


@pytest.mark.parametrize("flavour", ["lung", "abdomen", "oasis"])
def test_the_true_field_is_large_smooth_and_without_folds(
    phantoms: dict[str, Path], flavour: str
) -> None:
    disp = truth(phantoms[flavour], flavour, VAL[flavour])
    assert jacobian_determinant(torch.from_numpy(disp)[None]).min() > 0.1
    assert np.linalg.norm(disp, axis=0).mean() > {"lung": 3, "abdomen": 3, "oasis": 1}[flavour]


def test_points_follow_the_true_field_and_lie_in_the_fixed_lung(phantoms: dict[str, Path]) -> None:
    root = phantoms["lung"] / "task_02/training"
    for name, pair, count in (("lms/case_001.txt", "0001_0001", 100),
                              ("keypoints/case_002.csv", "0002_0002", 1000)):  # fmt: skip
        fixed, moving = read_points((root / name,))
        assert len(fixed) == count
        assert (fixed == np.round(fixed)).all()
        errors = tre_mm(truth(phantoms["lung"], "lung", pair), fixed, moving, (1.0, 1.0, 1.0))
        assert errors.max() < 0.02
        start = np.linalg.norm(moving - fixed, axis=1)
        assert start.mean() > 4
        mask = nib.load(root / f"lungMasks/case_{pair[1:4]}_exp.nii.gz").get_fdata()
        assert mask[tuple(fixed.astype(int).T)].all()


def test_every_voxel_is_a_function_of_the_seed(tmp_path: Path) -> None:
    def made(name: str, seed: int) -> dict[str, bytes]:
        make_phantom("lung", tmp_path / name, n_pairs=1, size="small", seed=seed)
        images = sorted((tmp_path / name).rglob("*.nii.gz"))
        return {path.name: nib.load(path).get_fdata().tobytes() for path in images}

    assert made("a", 0) == made("b", 0)
    assert made("a2", 0) != made("c", 1)


def test_one_patient_does_not_depend_on_how_many_there_are(
    tmp_path: Path, phantoms: dict[str, Path]
) -> None:
    make_phantom("lung", tmp_path / "one", n_pairs=1, size="small", seed=0)
    name = "task_02/training/scans/case_001_exp.nii.gz"
    one, of_three = (nib.load(root / name) for root in (tmp_path / "one", phantoms["lung"]))
    assert np.array_equal(one.get_fdata(), of_three.get_fdata())


def test_brains_have_35_labels(phantoms: dict[str, Path]) -> None:
    labels = nib.load(phantoms["oasis"] / "task_03/seg0438.nii.gz").get_fdata()
    assert len(set(np.unique(labels)) - {0}) >= 33  # the smallest may fall between voxels
    assert labels.max() == 35


def test_modalities_differ_in_more_than_a_gain(phantoms: dict[str, Path]) -> None:
    folder = phantoms["abdomen"] / "task_01/Train"
    mr, ct, seg = (
        nib.load(folder / name).get_fdata()
        for name in ("img0006_tcia_MR.nii.gz", "img0006_tcia_CT.nii.gz", "seg0006_tcia_MR.nii.gz")
    )
    means = [[float(image[seg == label].mean()) for label in (1, 2, 3)] for image in (mr, ct)]
    assert means[0][1] > 1.5 * means[0][0]  # the spleen is much brighter than the liver in MR
    assert abs(means[1][1] - means[1][0]) < 0.5 * abs(means[0][1] - means[0][0])


def test_a_quarter_is_for_validation(tmp_path: Path) -> None:
    make_phantom("abdomen", tmp_path / "p", n_pairs=4, size="small", seed=0)
    assert (tmp_path / "p/task_01/pairs_val.csv").read_text() == "fixed, moving\n8, 8\n"


def test_the_data_are_made_on_first_use_and_found_on_the_second(tmp_path: Path) -> None:
    task = phantom_task("lung", "small", 5, 1)
    assert task.root == Path("data/phantom/lung_small_5")
    assert task.folder == "task_02"
    scan = tmp_path / "data/phantom/lung_small_5/task_02/training/scans/case_001_exp.nii.gz"
    before = scan.stat().st_mtime_ns
    phantom_task("lung", "small", 5, 1)
    assert scan.stat().st_mtime_ns == before


def test_phantoms_never_lie_below_the_real_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("L2REG_DATA", str(tmp_path / "real"))
    phantom_task("lung", "small", 5, 1)
    assert not (tmp_path / "real").exists()


@pytest.mark.slow
def test_two_processes_that_need_the_same_new_phantom_both_get_it() -> None:
    code = """if True:
        import sys
        from l2reg.phantom.make import phantom_task
        print("ready", flush=True)
        sys.stdin.readline()
        phantom_task("lung", "small", 5, 2)"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    processes = [
        subprocess.Popen([sys.executable, "-c", code], text=True, **pipes)  # type: ignore[call-overload]
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr
    assert [path.name for path in Path("data/phantom").iterdir()] == ["lung_small_5"]
    make_phantom("lung", Path("alone"), n_pairs=2, size="small", seed=5)
    files = [
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (Path("alone"), Path("data/phantom/lung_small_5"))
    ]
    assert files[0] == files[1]


def test_a_phantom_that_another_process_wrote_meanwhile_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faster(self: Writer, n_pairs: int) -> list[object]:
        self.folder.mkdir(parents=True)
        (tmp_path / "p").mkdir()
        (tmp_path / "p/scan").touch()
        return []

    monkeypatch.setattr(Writer, "jobs", faster)
    with pytest.raises(InputError, match="already exists"):
        make_phantom("lung", tmp_path / "p", n_pairs=1, size="small", seed=0)
    assert [path.name for path in tmp_path.rglob("*")] == ["p", "scan"]


def test_a_folder_of_another_phantom_is_refused(tmp_path: Path) -> None:
    phantom_task("lung", "small", 5, 1)
    with pytest.raises(InputError, match=r"(?s)holds other data.*'pairs': 2.*'pairs': 1"):
        phantom_task("lung", "small", 5, 2)


@pytest.mark.parametrize("content", ["{", "3", '{"a": 1}', '{"flavour": "lung"}'])
def test_a_damaged_manifest_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "phantom.json").write_text(content)
    with pytest.raises(InputError, match="is not the description of a phantom"):
        phantom_task("lung", "small", 5, 1, root=tmp_path)
    with pytest.raises(InputError, match="is not the description of a phantom"):
        tasks_below(tmp_path, None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": -1}, "seed=-1: is no random seed"),
        ({"flavour": "heart"}, "abdomen, lung, oasis"),
        ({"size": "huge"}, "small, full"),
        ({"n_pairs": 0}, "at least 1"),
    ],
)
def test_impossible_phantoms_are_refused_and_nothing_is_written(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    options = {"flavour": "lung", "n_pairs": 1, "size": "small", "seed": 0, **changes}
    with pytest.raises(InputError, match=words):
        make_phantom(out=tmp_path / "p", **options)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="already exists"):
        make_phantom("lung", tmp_path, n_pairs=1, size="small", seed=0)


def test_an_interrupted_call_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("l2reg.phantom.writer.Writer._write_pair_list", stopped)
    with pytest.raises(KeyboardInterrupt):
        make_phantom("lung", tmp_path / "p", n_pairs=1, size="small", seed=0)
    assert list(tmp_path.iterdir()) == []


def test_a_phantom_is_marked_and_no_other_output_takes_its_place(
    phantoms: dict[str, Path],
) -> None:
    for kind in (OutputKind.RUN, OutputKind.PREDICTION, OutputKind.EVALUATION):
        with pytest.raises(InputError, match=f"has no {kind}") as error:
            claim_output_folder(phantoms["lung"], kind, overwrite=True)
        assert "remove this one yourself" not in str(error.value)
    assert (phantoms["lung"] / OutputKind.PHANTOM).is_file()


def test_the_manifest_says_how_it_was_made(phantoms: dict[str, Path]) -> None:
    manifest = json.loads((phantoms["lung"] / "phantom.json").read_text())
    assert manifest == {"flavour": "lung", "size": "small", "seed": 0, "pairs": 3}


def test_flavours_and_sizes_are_those_of_the_challenge_and_of_the_command() -> None:
    assert FLAVOURS == CHALLENGE_TASKS
    assert set(SMALL_SHAPES) == set(FLAVOURS)
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    actions = parser._option_string_actions
    assert tuple(actions["--flavour"].choices or ()) == FLAVOURS
    assert tuple(actions["--size"].choices or ()) == SIZES


def test_later_paint_covers_earlier_and_edges_fade() -> None:
    points = np.array([[0, 0, 0], [4, 0, 0], [5, 0, 0], [9, 0, 0]], dtype=np.float32)
    canvas = Canvas(points, background=0.0, edge_mm=2.0)
    canvas.paint(ellipsoid(points, (0, 0, 0), (5, 5, 5)), 10.0, 1)
    np.testing.assert_allclose(canvas.values, [10, 10, 5, 0], atol=1e-5)
    canvas.paint(ellipsoid(points, (0, 0, 0), (1, 1, 1)), 20.0, 2)
    assert canvas.labels.tolist() == [2, 1, 0, 0]
    assert canvas.values[0] == 20


def test_a_tree_reaches_its_targets_and_thins_out(random: np.random.Generator) -> None:
    targets = random.uniform(-50, 50, (20, 3))
    line, radii = tree(random, (0.0, 0.0, 0.0), targets, thick_mm=8.0, thin_mm=2.0, step_mm=1.5)
    assert len(line) == len(radii)
    assert radii.min() >= 2
    assert radii.max() == 8
    for target in targets:
        assert np.linalg.norm(line - target, axis=1).min() < 1e-6
    assert (tubes(targets.astype(np.float32), line, radii) < 0).all()


def test_points_are_millimetres_from_the_middle() -> None:
    points = grid_points((3, 4, 5), (2.0, 1.0, 3.0))
    np.testing.assert_allclose(points[0], [-2, -1.5, -6])
    np.testing.assert_allclose(points.mean(axis=0), 0, atol=1e-6)


def test_a_field_is_scaled_down_until_it_does_not_fold(random: np.random.Generator) -> None:
    shape, spacing = (24, 26, 28), (2.0, 1.5, 1.0)
    wild = random_field(random, shape, spacing, size_mm=12.0, grain_mm=12.0)
    scale = np.float32(1 / np.array(spacing)).reshape(3, 1, 1, 1)

    def smallest(field: np.ndarray) -> float:
        return float(jacobian_determinant(torch.from_numpy(field * scale)[None]).min())

    assert smallest(wild) < 0
    assert smallest(without_folds(wild, spacing)) >= MIN_DETERMINANT
