import csv
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from l2reg.data.dataset import Dataset
from l2reg.geometry.resize import resize_field
from l2reg.inference.container import load_method, serve_2021, serve_current
from l2reg.inference.predict_split import predict_split
from l2reg.inference.predictor import Predictor
from l2reg.phantom.make import phantom_task
from l2reg.problems import InputError
from l2reg.submission.fields import read_field
from l2reg.submission.rules import RULES

GRID = (72, 64, 80)
HALF = (36, 32, 40)


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
    prepared = load_method(methods / "task_02.yaml")
    pairs = data.split_pairs("val")
    Path("predicted").mkdir()
    result = predict_split(Predictor(prepared.method, data.reader), pairs, Path("predicted"), [],
                           RULES["2021"])  # fmt: skip
    with zipfile.ZipFile(result.zip_path) as archive:
        for pair in pairs:
            path = f"task_02/disp_{pair.name}.npz"
            assert archive.read(f"submission/{path}") == (Path("out") / path).read_bytes()
    assert np.abs(field_of(Path("out"), "0001_0001")).max() > 1


def test_an_unreadable_list_costs_its_task_alone(
    lungs: Path, phantoms: dict[str, Path], tmp_path: Path, compose_models: Callable[..., Path]
) -> None:
    brains = "convex refine=none task.shape=[60,72,84] task.spacing_mm=[2.67,2.67,2.67]"
    small = "convex refine=none task.shape=[72,64,80] task.spacing_mm=[4.67,3.75,4.55]"
    models = compose_models(tmp_path / "models", task_02=small, task_03=brains)
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
    [
        ("{}", "cannot be read"),
        ('{"name": "NLST"}', "is of a task that this image has no model for"),
    ],
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


@pytest.mark.gpu
def test_the_image_registers_on_the_gpu(methods: Path, lungs: Path) -> None:
    torch.cuda.reset_peak_memory_stats()
    assert serve_2021(methods, lungs, Path("out")) == []
    assert torch.cuda.max_memory_allocated() > 0
    assert [row["fault"] for row in runtimes(Path("out"))] == ["", "", ""]
    assert np.abs(field_of(Path("out"), "0001_0001")).max() > 1
