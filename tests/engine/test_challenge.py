import csv
import importlib.util
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np
import pytest
import torch

from l2reg.data.dataset import Dataset
from l2reg.data.phantom import phantom_task
from l2reg.engine.challenge import Service, load_method, serve_2021, serve_current
from l2reg.evaluation.rules import RULES
from l2reg.geometry.resize import resize_field
from l2reg.inference.predict import predict_split
from l2reg.inference.predictor import Predictor
from l2reg.problems import InputError
from l2reg.submission.fields import read_field

ROOT = Path(__file__).parents[2]
SMALL = "convex refine=none task.shape=[72,64,80] task.spacing_mm=[4.67,3.75,4.55]"
GRID, HALF = (72, 64, 80), (36, 32, 40)


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docker/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def composed(models: Path, **choices: str) -> Path:
    models.mkdir(parents=True, exist_ok=True)
    for folder in ("task_01", "task_02", "task_03"):
        (models / f"{folder}.txt").write_text(choices.get(folder, "none"))
    script("compose").main(models)
    return models


@pytest.fixture(scope="module")
def methods(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return composed(tmp_path_factory.mktemp("models"), task_02=SMALL)


@pytest.fixture
def lungs(phantoms: dict[str, Path], tmp_path: Path) -> Path:
    """The test folder of the challenge, with three small pairs."""
    shutil.copytree(phantoms["lung"], tmp_path / "test")
    (tmp_path / "test/task_02/pairs_val.csv").write_text(
        "fixed, moving\r\n1, 1\r\n2, 2\r\n3, 3\r\n"
    )
    return tmp_path / "test"


def field_of(out: Path, pair: str) -> np.ndarray:
    path = out / f"task_02/disp_{pair}.npz"
    return read_field(path.read_bytes(), str(path), GRID)


def runtimes(out: Path) -> list[dict[str, str]]:
    with (out / "runtime.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_fields_are_those_of_predict(
    methods: Path,
    lungs: Path,
    open_data: Callable[..., Dataset],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert serve_2021(methods, lungs, Path("out")) == []
    said = capsys.readouterr().out
    assert "task_01: this image has no model for it; skipped" in said

    data = open_data(phantom_task("lung", "small", 0, 3, root=lungs))
    method = load_method(methods / "task_02.yaml")
    pairs = data.listed("val")
    Path("predicted").mkdir()
    result = predict_split(method.predictor(data.reader), pairs, Path("predicted"), [],
                           RULES["2021"])  # fmt: skip
    with zipfile.ZipFile(result.zip_path) as archive:
        for pair in pairs:
            path = f"task_02/disp_{pair.name}.npz"
            assert archive.read(f"submission/{path}") == (Path("out") / path).read_bytes()
    assert np.abs(field_of(Path("out"), "0001_0001")).max() > 1


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


def test_an_unreadable_list_costs_its_task_alone(
    lungs: Path, phantoms: dict[str, Path], tmp_path: Path
) -> None:
    brains = "convex refine=none task.shape=[60,72,84] task.spacing_mm=[2.67,2.67,2.67]"
    models = composed(tmp_path / "models", task_02=SMALL, task_03=brains)
    shutil.copytree(phantoms["oasis"] / "task_03", lungs / "task_03")
    (lungs / "task_02/pairs_val.csv").write_text("a, b\n")
    (fault,) = serve_2021(models, lungs, Path("out"))
    assert fault.startswith("task_02: nothing is registered")
    assert list(Path("out/task_03").glob("disp_*.npz"))


def test_everything_is_ready_before_the_first_test_file_is_touched(
    methods: Path, lungs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    warm_up, read = Predictor.warm_up, Path.open

    def warming(self: Predictor) -> None:
        order.append("warm")
        warm_up(self)

    def opening(self: Path, *args: object, **more: object) -> object:
        if lungs in self.parents:
            order.append("open")
        return read(self, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Predictor, "warm_up", warming)
    monkeypatch.setattr(Path, "open", opening)
    serve_2021(methods, lungs, Path("out"))
    assert order[:2] == ["warm", "open"]


def test_a_folder_without_tasks_is_a_fault(methods: Path, tmp_path: Path) -> None:
    (fault,) = serve_2021(methods, tmp_path, Path("out"))
    assert "holds no task that this image has a model for" in fault


def test_a_folder_that_cannot_be_written_to_is_found_before_anything_else(lungs: Path) -> None:
    Path("file").write_text("in the way")
    with pytest.raises(InputError, match="cannot be written"):
        serve_2021(Path("no methods"), lungs, Path("file/out"))


def test_a_full_disk_ends_it_and_is_said_as_such(
    methods: Path, lungs: Path, open_data: Callable[..., Dataset]
) -> None:
    service = Service(Path("out"), RULES["2021"])
    Path("out/task_02").mkdir()
    Path("out/task_02/.part_disp_0001_0001.npz").symlink_to("/dev/full")
    method = load_method(methods / "task_02.yaml")
    data = open_data(phantom_task("lung", "small", 0, 3, root=lungs))
    with pytest.raises(InputError, match="the disk is full"):
        service.serve(method.predictor(data.reader), data.release, [(1, 1)])
    assert list(Path("out/task_02").iterdir()) == []


def test_what_a_killed_run_left_behind_is_removed(methods: Path, lungs: Path) -> None:
    Path("out/task_02").mkdir(parents=True)
    Path("out/task_02/.part_disp_0009_0009.npz").write_text("half a field")
    serve_2021(methods, lungs, Path("out"))
    assert not list(Path("out").rglob(".part_*"))


@pytest.fixture
def later(lungs: Path, tmp_path: Path) -> Path:
    """The later interface's data folder: two pairs with scans, one without, and the json."""
    data, scans = tmp_path / "data", lungs / "task_02/training/scans"
    (data / "imagesTr").mkdir(parents=True)
    for case in (1, 2):
        for code, side in enumerate(("exp", "insp")):
            shutil.copy(scans / f"case_{case:03}_{side}.nii.gz",
                        data / f"imagesTr/LungCT_{case:04}_{code:04}.nii.gz")  # fmt: skip

    def listed(folder: str, *cases: int) -> list[dict[str, str]]:
        stems = [f"./{folder}/LungCT_{case:04}" for case in cases]
        return [{"fixed": f"{s}_0000.nii.gz", "moving": f"{s}_0001.nii.gz"} for s in stems]

    lists = {
        "registration_val": listed("imagesTr", 1, 2),
        "registration_test": listed("imagesTs", 21),
    }
    (data / "LungCT_dataset.json").write_text(json.dumps({"name": "LungCT"} | lists))
    return data


def test_the_later_interface_gets_full_fields(
    methods: Path, lungs: Path, later: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faults = serve_current(methods, later / "LungCT_dataset.json", later, Path("out"))
    assert faults == []
    assert "pair 0021_0021 of the test list: no scan; skipped" in capsys.readouterr().out
    assert sorted(p.name for p in Path("out").iterdir()) == [
        "disp_0001_0001.nii.gz", "disp_0002_0002.nii.gz", "runtime.csv",
    ]  # fmt: skip
    image = nib.load("out/disp_0001_0001.nii.gz")
    assert image.shape == (*GRID, 3)
    np.testing.assert_array_equal(image.affine, np.eye(4))

    # without masks the search differs a little: compare with the same pair read without
    shutil.rmtree(lungs / "task_02/training/lungMasks")
    serve_2021(methods, lungs, Path("old"))
    half = torch.from_numpy(field_of(Path("old"), "0001_0001").astype(np.float32))[None]
    ratio = half.new_tensor([35 / 71, 31 / 63, 39 / 79]).view(3, 1, 1, 1)
    full = resize_field(half * ratio, GRID)[0].movedim(0, -1).numpy()
    np.testing.assert_allclose(image.get_fdata(), full, atol=0.02)


def test_a_faulty_pair_of_the_later_interface_gets_the_zero_field_too(
    methods: Path, later: Path
) -> None:
    (later / "imagesTr/LungCT_0002_0001.nii.gz").unlink()
    (fault,) = serve_current(methods, later / "LungCT_dataset.json", later, Path("out"))
    assert "pair 0002_0002 gets the zero field" in fault
    assert not nib.load("out/disp_0002_0002.nii.gz").get_fdata().any()
    assert nib.load("out/disp_0001_0001.nii.gz").get_fdata().any()


@pytest.mark.parametrize(
    ("content", "words"),
    [("{}", "cannot be read"), ('{"name": "NLST"}', "is of a task without a model here")],
)
def test_a_dataset_json_of_no_known_task_is_refused(
    methods: Path, later: Path, content: str, words: str
) -> None:
    (later / "other.json").write_text(content)
    with pytest.raises(InputError, match=words):
        serve_current(methods, later / "other.json", later, Path("out"))


def test_a_list_without_any_scan_is_a_fault(methods: Path, later: Path) -> None:
    shutil.rmtree(later / "imagesTr")
    (fault,) = serve_current(methods, later / "LungCT_dataset.json", later, Path("out"))
    assert "lists no pair whose scans are below" in fault
