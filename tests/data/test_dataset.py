import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from l2reg.config.build import build
from l2reg.config.presets import load_preset
from l2reg.data.check import check_dataset
from l2reg.data.dataset import Dataset
from l2reg.data.task import Task
from l2reg.phantom.make import phantom_task
from l2reg.problems import InputError

OpenData = Callable[..., Dataset]
TinyTask = Callable[..., Task]


def test_scored_pairs_are_not_trained_on(
    lung_2021: Path, tiny_task: TinyTask, open_data: OpenData
) -> None:
    data = open_data(tiny_task("lung"), lung_2021)
    assert [pair.name for pair in data.split_pairs("val")] == ["0001_0001"]
    assert [pair.name for pair in data.training_set.intra_patient] == ["0002_0002", "0003_0003"]
    assert data.training_set.scans == []


def test_a_pair_list_replaces_the_official_one_and_both_are_kept_out_of_training(
    lung_2021: Path, tiny_task: TinyTask, open_data: OpenData, tmp_path: Path
) -> None:
    own = tmp_path / "own.csv"
    own.write_text("fixed, moving\n3, 3\n")
    data = open_data(tiny_task("lung"), lung_2021, pairs=own)
    assert [pair.name for pair in data.split_pairs("val")] == ["0003_0003"]
    assert [pair.name for pair in data.training_set.intra_patient] == ["0002_0002"]


@pytest.fixture
def abdomen_with_mr_pairs(tmp_path: Path) -> Path:
    """A data root whose scan 1 is unpaired, and whose scan 2 exists in both kinds of MR."""
    root = tmp_path / "above/root"
    for name in ("Train/img0002_tcia_MR", "Train/img0002_tcia_CT", "MRIs/img0001_chaos_MR",
                 "MRIs/img0002_chaos_MR", "CTs/img0001_bcv_CT"):  # fmt: skip
        path = root / f"task_01/{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return root


LIST = "fixed, moving\n2, 2\n1, 2\n"


@pytest.mark.parametrize("where", ["elsewhere", "above", "above/root", "above/root/task_01/lists"])
def test_a_list_with_no_scans_beside_it_is_read_as_one_in_the_tasks_folder(
    abdomen_with_mr_pairs: Path,
    tiny_task: TinyTask,
    open_data: OpenData,
    tmp_path: Path,
    where: str,
) -> None:
    root = abdomen_with_mr_pairs
    inside, own = root / "task_01/own.csv", tmp_path / where / "own.csv"
    own.parent.mkdir(exist_ok=True)
    for path in (inside, own):
        path.write_text(LIST)
    expected = open_data(tiny_task("abdomen"), root, pairs=inside).split_pairs("val")
    assert expected[0].fixed.image == root / "task_01/Train/img0002_tcia_MR.nii.gz"
    assert not expected[1].fixed.image.exists()  # there is no MR scan 1 with a CT scan
    assert open_data(tiny_task("abdomen"), root, pairs=own).split_pairs("val") == expected


@pytest.mark.parametrize("spelling", ["absolute", "relative", "linked"])
def test_scans_beside_a_list_take_precedence_however_its_path_is_written(
    abdomen_with_mr_pairs: Path, tiny_task: TinyTask, open_data: OpenData, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, spelling: str,
) -> None:  # fmt: skip
    folder = abdomen_with_mr_pairs / "task_01/MRIs"
    (folder / "pairs_val.csv").write_text(LIST)
    (tmp_path / "linked").symlink_to(folder)
    monkeypatch.chdir(folder)
    own = {"absolute": folder, "relative": Path(), "linked": tmp_path / "linked"}[spelling]
    data = open_data(tiny_task("abdomen"), abdomen_with_mr_pairs, pairs=own / "pairs_val.csv")
    names = [(p.fixed.image.name, p.moving.image.name) for p in data.split_pairs("val")]
    first, second = "img0001_chaos_MR.nii.gz", "img0002_chaos_MR.nii.gz"
    assert names == [(second, second), (first, second)]


@pytest.mark.parametrize("excluded", [2, "2", "002", "0002", "case_002_insp"])
def test_excluded_scans_are_used_nowhere(
    lung_2021: Path, tiny_task: TinyTask, open_data: OpenData, excluded: int | str
) -> None:
    data = open_data(tiny_task("lung"), lung_2021, exclude=[excluded])
    assert [pair.name for pair in data.training_set.intra_patient] == ["0003_0003"]
    with pytest.raises(InputError, match="1 pair, 1 excluded"):
        open_data(tiny_task("lung"), lung_2021, exclude=[1]).split_pairs("val")


def test_an_excluded_scan_is_not_read(
    lung_2021: Path, tiny_task: TinyTask, open_data: OpenData
) -> None:
    (lung_2021 / "task_02/training/scans/case_002_insp.nii.gz").write_bytes(b"broken")
    data = open_data(tiny_task("lung"), lung_2021, exclude=["0002"])
    assert check_dataset(data) == []
    assert len(check_dataset(open_data(tiny_task("lung"), lung_2021))) == 1


def test_a_single_excluded_scan_needs_no_list(
    lung_2021: Path, tiny_task: TinyTask, open_data: OpenData
) -> None:
    for exclude in (2, "02", "case_002_exp"):
        training = open_data(tiny_task("lung"), lung_2021, exclude=exclude).training_set
        assert [pair.name for pair in training.intra_patient] == ["0003_0003"]


def test_a_listed_scan_that_is_not_on_disk_can_be_excluded(
    lung_2021: Path, tiny_task: TinyTask, open_data: OpenData, tmp_path: Path
) -> None:
    own = tmp_path / "own.csv"
    own.write_text("fixed, moving\n1, 1\n77, 77\n")
    data = open_data(tiny_task("lung"), lung_2021, pairs=own, exclude=["0077"])
    assert [pair.name for pair in data.split_pairs("val")] == ["0001_0001"]


@pytest.mark.parametrize(
    ("exclude", "kept"), [([9999, "02", "img0007"], ["02"]), (9999, []), (2, [2])]
)
def test_entries_that_name_no_scan_can_be_dropped(
    lung_2021: Path, tiny_task: TinyTask, open_data: OpenData, exclude: object, kept: list[object]
) -> None:
    data = open_data(tiny_task("lung"), lung_2021, exclude=exclude).keep_known_exclusions()
    assert data.exclude == kept
    names = [pair.name for pair in data.training_set.intra_patient]
    assert names == (["0003_0003"] if kept else ["0002_0002", "0003_0003"])


def test_excluding_a_scan_that_does_not_exist_is_refused(
    lung_2021: Path, tiny_task: TinyTask, open_data: OpenData
) -> None:
    data = open_data(tiny_task("lung"), lung_2021, exclude=[9999, 2, "case_002_ins"])
    with pytest.raises(InputError) as error:
        _ = data.training_set
    unknown, misspelt = error.value.problems
    assert (unknown.where, unknown.found) == ("data.exclude=9999", "9999")
    assert misspelt.where == "data.exclude=case_002_ins"
    assert "case_002_insp" in misspelt.remedy


def test_validation_images_join_the_training_without_anything_to_score_with(
    lung_2021: Path, tiny_task: TinyTask, open_data: OpenData
) -> None:
    data = open_data(tiny_task("lung"), lung_2021, sampling={"val_images": True})
    by_name = {pair.name: pair for pair in data.training_set.intra_patient}
    assert by_name["0001_0001"].landmarks is None
    assert by_name["0001_0001"].keypoints is None
    assert by_name["0002_0002"].keypoints is not None
    assert data.split_pairs("val")[0].landmarks is not None  # scoring still has them


def test_an_image_scored_under_another_name_is_trained_on_without_its_points(
    lung_2021: Path, tiny_task: TinyTask, open_data: OpenData
) -> None:
    scans = lung_2021 / "task_02/training/scans"
    shutil.copy(scans / "case_001_exp.nii.gz", scans / "case_002_exp.nii.gz")
    training = open_data(tiny_task("lung"), lung_2021).training_set
    by_name = {pair.name: pair for pair in training.intra_patient}
    assert by_name["0002_0002"].keypoints is None
    assert by_name["0003_0003"].keypoints is not None
    assert training.evaluation_images == [scans / "case_002_exp.nii.gz"]


def test_brains_are_paired_across_patients_and_validation_subjects_kept_out(
    phantoms: dict[str, Path], open_data: OpenData
) -> None:
    task = phantom_task("oasis", "small", 0, 3, root=phantoms["oasis"])
    training = open_data(task).training_set
    assert training.intra_patient == []
    assert [scan.id for scan in training.scans] == [1, 2, 3]
    assert all(scan.labels is not None for scan in training.scans)


def test_an_unknown_prealignment_is_refused_when_the_data_is_opened(
    lung_2021: Path, tiny_task: TinyTask, open_data: OpenData
) -> None:
    with pytest.raises(InputError, match=r"data\.prealign must be one of none, .*got 'rigidd'"):
        open_data(tiny_task("lung"), lung_2021, prealign="rigidd")


@pytest.mark.parametrize("split", ["train", "all"])
def test_an_unknown_split_is_refused(
    lung_2021: Path, tiny_task: TinyTask, open_data: OpenData, split: str
) -> None:
    with pytest.raises(InputError, match="val or test"):
        open_data(tiny_task("lung"), lung_2021).split_pairs(split)


def test_nothing_to_train_on_is_said_with_what_there_is(
    lung_2021: Path, tiny_task: TinyTask, open_data: OpenData
) -> None:
    (lung_2021 / "task_02/pairs_val.csv").write_text("fixed, moving\n1, 1\n2, 2\n3, 3\n")
    data = open_data(tiny_task("lung"), lung_2021)
    with pytest.raises(InputError, match=r"(?s)nothing to train on.*0 pairs.*val_images=true"):
        data.batches("half", items=range(1), seed=0, device=torch.device("cpu"))


def test_the_root_is_that_of_the_environment_unless_one_is_given(
    lung_2021: Path, tiny_task: TinyTask, open_data: OpenData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("L2REG_DATA", str(lung_2021))
    assert open_data(tiny_task("lung")).release.folder == lung_2021 / "task_02"
    with pytest.raises(InputError, match="elsewhere"):
        open_data(tiny_task("lung"), Path("elsewhere")).split_pairs("val")


def test_a_given_root_is_read_even_where_a_task_makes_its_data_elsewhere(
    lung_2021: Path, tmp_path: Path, open_data: OpenData, tiny_task: TinyTask
) -> None:
    task = tiny_task("lung", root=tmp_path / "made")
    assert open_data(task, lung_2021).release.folder == lung_2021 / "task_02"
    made = shutil.copytree(lung_2021, tmp_path / "made")
    assert open_data(task).release.folder == made / "task_02"


def test_the_home_folder_may_be_written_as_a_tilde(
    lung_2021: Path, monkeypatch: pytest.MonkeyPatch, open_data: OpenData,
    tiny_task: TinyTask,
) -> None:  # fmt: skip
    monkeypatch.setenv("HOME", str(lung_2021.parent))
    (lung_2021.parent / "list.csv").write_text("fixed, moving\n2, 2\n")
    data = open_data(tiny_task("lung"), Path("~") / lung_2021.name, pairs="~/list.csv")
    assert [pair.name for pair in data.split_pairs("val")] == ["0002_0002"]
    assert data.training_set.intra_patient[0].name == "0003_0003"


@pytest.mark.data
def test_the_real_abdomen_has_a_second_list_of_mr_pairs(
    real_data: Path, open_data: OpenData
) -> None:
    task = build(load_preset("task", "abdomen"))
    csv = real_data / "task_01/MRIs/pairs_val.csv"
    pairs = open_data(task, real_data, pairs=csv).split_pairs("val")
    assert [pair.name for pair in pairs] == ["0001_0002", "0002_0003", "0003_0001"]
    assert {scan.modality for p in pairs for scan in (p.fixed, p.moving)} == {"MR"}
    assert all(p.fixed.image.parent.name == "MRIs" and p.moving.labels for p in pairs)


@pytest.mark.data
def test_the_real_landmarks_are_out_of_the_trainings_reach(
    real_data: Path, open_data: OpenData
) -> None:
    task = build(load_preset("task", "lung"))
    data = open_data(task, real_data, sampling={"val_images": True})
    assert sorted(pair.name for pair in data.training_set.intra_patient) == [
        "0001_0001",
        "0002_0002",
    ]
    assert all(pair.landmarks is None for pair in data.training_set.intra_patient)
