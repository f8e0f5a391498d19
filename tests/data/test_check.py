import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from l2reg.config.build import build
from l2reg.config.presets import load_preset
from l2reg.data.cache import Cache
from l2reg.data.check import check_dataset, check_ground_truth, check_pairs, check_scans
from l2reg.data.dataset import Dataset
from l2reg.data.task import Task
from l2reg.phantom.make import phantom_task
from l2reg.problems import Problem

TINY = (12, 10, 14)
SPACING = (1.75, 1.25, 1.75)
OpenData = Callable[..., Dataset]


@pytest.fixture
def lung(
    lung_2021: Path, tiny_task: Callable[..., Task], open_data: OpenData
) -> Callable[[], Dataset]:
    return lambda: open_data(tiny_task("lung"), lung_2021)


def messages(problems: list[Problem]) -> str:
    return "\n".join(map(str, problems))


def training_folder(root: Path) -> Path:
    return root / "task_02/training"


def test_data_without_faults_has_no_problems(lung: Callable[[], Dataset]) -> None:
    assert check_dataset(lung()) == []


@pytest.mark.parametrize("flavour", ["lung", "abdomen", "oasis"])
def test_phantoms_have_no_problems(
    phantoms: dict[str, Path], open_data: OpenData, flavour: str
) -> None:
    task = phantom_task(flavour, "small", 0, 3, root=phantoms[flavour])
    assert check_dataset(open_data(task)) == []


def test_every_problem_of_a_data_set_is_shown_at_once(
    lung_2021: Path, lung: Callable[[], Dataset], volume: Callable[..., Path]
) -> None:
    folder = training_folder(lung_2021)
    (folder / "scans/case_001_insp.nii.gz").unlink()
    truncated = folder / "scans/case_001_exp.nii.gz"
    truncated.write_bytes(truncated.read_bytes()[:300])
    volume(folder / "scans/case_002_exp.nii.gz", np.zeros((12, 10, 15), np.int16))
    volume(folder / "scans/case_002_insp.nii.gz", np.zeros(TINY, np.int16), (1.75, 1.25, 2.0))
    nan = np.full(TINY, np.nan, np.float32)
    volume(folder / "scans/case_003_exp.nii.gz", nan)
    volume(folder / "lungMasks/case_003_exp.nii.gz", np.zeros(TINY, np.uint8))
    volume(folder / "lungMasks/case_003_insp.nii.gz", np.full(TINY, 0.5, np.float32))
    (folder / "lms/case_001.txt").write_text("1,2,3,4,5,60\n")
    (lung_2021 / "task_02/keypoints/case_002.csv").write_text("1,2,3\n")

    problems = check_dataset(lung())

    text = messages(problems)
    for words in (
        "case_001_insp.nii.gz: is missing",
        "case_001_exp.nii.gz: cannot be read",
        "case_002_exp.nii.gz: has another shape",
        "found     (12, 10, 15)",
        "case_002_insp.nii.gz: has another voxel size",
        "found     (1.75, 1.25, 2.0) mm",
        "case_003_exp.nii.gz: has voxels that are not numbers",
        "case_003_exp.nii.gz: is an empty mask",
        "case_003_insp.nii.gz: is not a label map",
        "case_001.txt: has moving points outside the volume",
        "case_002.csv: has the wrong columns",
    ):
        assert words in text
    assert len(problems) == 9
    assert all(p.expected and p.found and p.remedy for p in problems)


@pytest.mark.parametrize(("error_mm", "accepted"), [(5e-4, True), (2e-3, False)])
def test_spacings_agree_to_a_thousandth_of_a_millimetre(
    lung_2021: Path, lung: Callable[[], Dataset], volume: Callable[..., Path], error_mm: float,
    accepted: bool,
) -> None:  # fmt: skip
    path = training_folder(lung_2021) / "scans/case_002_exp.nii.gz"
    volume(path, np.zeros(TINY, np.int16), (1.75 + error_mm, 1.25, 1.75))
    problems = check_dataset(lung())
    assert (problems == []) is accepted
    assert accepted or "to 0.001 mm" in messages(problems)


@pytest.mark.parametrize("value", [-1, 5])
def test_labels_out_of_range_are_found(
    phantoms: dict[str, Path], open_data: OpenData, volume: Callable[..., Path], tmp_path: Path,
    value: int,
) -> None:  # fmt: skip
    root = shutil.copytree(phantoms["abdomen"], tmp_path / "copy")
    task = phantom_task("abdomen", "small", 0, 3, root=root)
    labels = np.zeros(task.shape, np.int16)
    labels[1, 2, 3] = value
    volume(root / "task_01/Train/seg0002_tcia_MR.nii.gz", labels)
    (problem,) = check_dataset(open_data(task))
    assert problem.where.endswith("seg0002_tcia_MR.nii.gz")
    assert "integers from 0 to 4" in problem.expected
    assert problem.found == f"values from {min(value, 0)} to {max(value, 0)}"


def test_an_image_in_two_splits_is_found_under_whatever_name(
    lung_2021: Path, lung: Callable[[], Dataset]
) -> None:
    scans = training_folder(lung_2021) / "scans"
    shutil.copy(scans / "case_001_exp.nii.gz", scans / "case_002_exp.nii.gz")
    (problem,) = check_dataset(lung())
    assert "is in two splits" in problem.what
    assert problem.where.endswith("case_002_exp.nii.gz")
    assert "case_001_exp.nii.gz" in problem.found


def test_prealignment_by_masks_requires_them(lung_2021: Path, lung: Callable[[], Dataset]) -> None:
    (training_folder(lung_2021) / "lungMasks/case_001_exp.nii.gz").unlink()
    data = lung()
    pairs = data.split_pairs("val")
    assert check_pairs(pairs, data.release.task, Cache(None)) == []
    for method in ("mask_centre", "affine"):
        (problem,) = check_pairs(pairs, data.release.task, Cache(None), prealign=method)
        assert "has no mask" in problem.what
    (training_folder(lung_2021) / "lungMasks/case_001_insp.nii.gz").unlink()
    pairs = lung().split_pairs("val")
    assert len(check_pairs(pairs, data.release.task, Cache(None), prealign="mask_centre")) == 2
    assert check_pairs(pairs, data.release.task, Cache(None), prealign="affine") == []


def test_a_pair_without_labels_or_landmarks_cannot_be_scored(
    lung_2021: Path, lung: Callable[[], Dataset]
) -> None:
    data = lung()
    assert check_ground_truth(data.split_pairs("val"), data.release.task) == []
    (training_folder(lung_2021) / "lms/case_001.txt").unlink()
    data = lung()
    (problem,) = check_ground_truth(data.split_pairs("val"), data.release.task)
    assert problem.where == "pair 0001_0001"


def test_scoring_does_not_need_images(lung_2021: Path, lung: Callable[[], Dataset]) -> None:
    for scan in (training_folder(lung_2021) / "scans").iterdir():
        scan.unlink()
    data = lung()
    assert check_ground_truth(data.split_pairs("val"), data.release.task) == []


def test_a_file_that_passed_is_not_read_again_until_it_changes(
    lung_2021: Path, lung: Callable[[], Dataset], tmp_path: Path, volume: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    data, cache = lung(), Cache(tmp_path / "cache")
    scans = [pair.fixed for pair in data.training_set.intra_patient]
    assert check_scans(scans, data.release.task, cache) == []
    reads = []
    monkeypatch.setattr("l2reg.data.check.read_image", reads.append)
    assert check_scans(scans, data.release.task, cache) == []
    assert reads == []
    volume(scans[0].image, np.ones(TINY, np.int16))
    check_scans(scans, data.release.task, cache)
    assert reads == [scans[0].image]


def test_the_full_later_layout_is_checked_and_read(
    tmp_path: Path, open_data: OpenData, tiny_task: Callable[..., Task], volume: Callable[..., Path]
) -> None:
    folder = tmp_path / "AbdomenMRCT"
    random = np.random.default_rng(0)
    for case in (1, 6, 40, 41):
        for side in ("0000", "0001") if case < 10 else ("0000" if case == 40 else "0001",):
            name = f"AbdomenMRCT_{case:04}_{side}.nii.gz"
            grid = (2.0, 2.0, 2.0)
            volume(folder / "imagesTr" / name, random.integers(1, 90, TINY).astype(np.int16), grid)
            volume(folder / "labelsTr" / name, random.integers(0, 5, TINY).astype(np.uint8), grid)
            volume(folder / "masksTr" / name, np.ones(TINY, np.uint8), grid)
    (folder / "AbdomenMRCT_dataset.json").write_text(
        '{"registration_val": [{"fixed": "./imagesTr/AbdomenMRCT_0006_0000.nii.gz",'
        ' "moving": "./imagesTr/AbdomenMRCT_0006_0001.nii.gz"}], "registration_test": []}'
    )
    data = open_data(tiny_task("abdomen"), tmp_path, prealign="mask_centre")
    assert check_dataset(data) == []
    assert [pair.name for pair in data.split_pairs("val")] == ["0012_0012"]
    assert [pair.name for pair in data.training_set.intra_patient] == ["0002_0002"]
    assert {scan.modality for scan in data.training_set.scans} == {"MR", "CT"}
    sample = data.reader("half").read(data.split_pairs("val")[0])
    assert sample["label_weight"].tolist() == [1.0]


@pytest.mark.data
def test_the_later_lung_layout_lacks_its_images_and_check_says_so(
    real_data: Path, open_data: OpenData
) -> None:
    task = build(load_preset("task", "lung"))
    problems = check_dataset(open_data(task, real_data / "l2r_later_layout"))
    assert len(problems) == 6
    assert {problem.what for problem in problems} == {"is missing"}
    assert problems[0].where.endswith("imagesTr/LungCT_0001_0000.nii.gz")


@pytest.mark.data
@pytest.mark.parametrize("name", ["abdomen", "lung", "oasis"])
def test_the_real_scans_are_in_order_but_for_images_in_two_splits(
    real_data: Path, open_data: OpenData, name: str
) -> None:
    problems = check_dataset(open_data(build(load_preset("task", name)), real_data))
    assert {problem.what for problem in problems} <= {"is in two splits"}
