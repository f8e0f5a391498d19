from collections.abc import Callable
from pathlib import Path

import pytest

from l2reg.data.layouts import Release, file_name, open_release
from l2reg.data.task import Task
from l2reg.problems import InputError


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def relative(release: Release, path: Path | None) -> str | None:
    return None if path is None else path.relative_to(release.folder).as_posix()


def test_the_lung_of_2021_is_found_wherever_it_was_unpacked(
    tmp_path: Path, tiny_task: Callable[..., Task]
) -> None:
    touch(
        tmp_path / "task_02",
        "L2R/training/scans/case_004_exp.nii.gz",
        "L2R/training/scans/case_004_insp.nii.gz",
        "L2R/training/lungMasks/case_004_exp.nii.gz",
        "keypoints/case_004.csv",
        "L2R/training/lms/case_004.txt",
    )
    release = open_release(tiny_task("lung"), tmp_path)
    (pair,) = release.intra_patient_pairs()
    assert relative(release, pair.fixed.image) == "L2R/training/scans/case_004_exp.nii.gz"
    assert relative(release, pair.moving.image) == "L2R/training/scans/case_004_insp.nii.gz"
    assert relative(release, pair.fixed.mask) == "L2R/training/lungMasks/case_004_exp.nii.gz"
    assert pair.moving.mask is None
    assert pair.keypoints is not None
    assert [path.name for path in pair.keypoints.paths] == ["case_004.csv"]
    assert pair.landmarks is not None
    assert release.split_ids("val") == [(1, 1), (2, 2), (3, 3)]


def test_the_brains_of_2021_keep_their_two_numberings_apart(
    tmp_path: Path, tiny_task: Callable[..., Task]
) -> None:
    touch(
        tmp_path / "task_03",
        "OASIS_OAS1_0001_MR1/aligned_norm.nii.gz",
        "OASIS_OAS1_0001_MR1/aligned_seg35.nii.gz",
        "OASIS_OAS1_0001_MR1/norm.nii.gz",
        "OASIS_OAS1_0438_MR1/aligned_norm.nii.gz",
        "test/img0001.nii.gz",
        "test/img0002.nii.gz",
        "val/img0438.nii.gz",
        "val/seg0438.nii.gz",
    )
    release = open_release(tiny_task("oasis"), tmp_path)
    test_pair = release.pair((1, 2))
    assert relative(release, test_pair.fixed.image) == "test/img0001.nii.gz"
    found = {relative(release, scan.image) for scan in release.scans()}
    assert "OASIS_OAS1_0001_MR1/aligned_norm.nii.gz" in found
    assert "OASIS_OAS1_0438_MR1/aligned_norm.nii.gz" not in found  # a validation subject
    assert release.pair((438, 439)).fixed.labels == release.folder / "val/seg0438.nii.gz"


def test_another_list_finds_scans_of_any_kind_beside_it_first(
    tmp_path: Path, tiny_task: Callable[..., Task]
) -> None:
    touch(
        tmp_path / "task_01",
        "Train/img0002_tcia_CT.nii.gz",
        "Train/img0002_tcia_MR.nii.gz",
        "Train/mask0002_tcia_MR.nii.gz",
        "MRIs/img0001_chaos_MR.nii.gz",
        "MRIs/img0002_chaos_MR.nii.gz",
        "MRIs/seg0002_chaos_MR.nii.gz",
        "CTs/img0002_bcv_CT.nii.gz",
    )
    release = open_release(tiny_task("abdomen"), tmp_path)
    official = release.pair((2, 2))
    assert (official.fixed.modality, official.moving.modality) == ("MR", "CT")
    assert relative(release, official.moving.image) == "Train/img0002_tcia_CT.nii.gz"
    both_mr = release.pair((1, 2), near=release.folder / "MRIs")
    assert relative(release, both_mr.fixed.image) == "MRIs/img0001_chaos_MR.nii.gz"
    assert relative(release, both_mr.moving.image) == "MRIs/img0002_chaos_MR.nii.gz"
    assert relative(release, both_mr.moving.labels) == "MRIs/seg0002_chaos_MR.nii.gz"
    assert both_mr.moving.modality == "MR"


def test_the_later_layout_is_found_with_its_ids_shape_and_json(
    tmp_path: Path, tiny_task: Callable[..., Task]
) -> None:
    touch(
        tmp_path / "OASIS",
        "imagesTr/OASIS_0001_0000.nii.gz",
        "imagesTr/OASIS_0400_0000.nii.gz",
        "imagesTr/OASIS_0401_0000.nii.gz",
        "imagesTs/OASIS_0415_0000.nii.gz",
        "labelsTr/OASIS_0400_0000.nii.gz",
    )
    json = (
        '{"registration_val": [{"fixed": "./imagesTr/OASIS_0400_0000.nii.gz",'
        ' "moving": "./imagesTr/OASIS_0401_0000.nii.gz"}]}'
    )
    (tmp_path / "OASIS/OASIS_dataset.json").write_text(json)
    release = open_release(tiny_task("oasis"), tmp_path)
    assert release.task.shape == (160, 224, 192)
    assert release.split_ids("val") == [(400, 401)]
    assert release.split_ids("test")[0] == (415, 416)
    pair = release.pair((400, 401))
    assert pair.name == "0443_0444"  # as numbered in 2021
    assert relative(release, pair.fixed.labels) == "labelsTr/OASIS_0400_0000.nii.gz"
    held_out = {relative(release, s.image) for s in release.scans() if release.is_held_out(s)}
    assert held_out == {"imagesTs/OASIS_0415_0000.nii.gz"}


def test_two_point_files_belong_to_a_pair_of_the_later_layout(
    tmp_path: Path, tiny_task: Callable[..., Task]
) -> None:
    touch(
        tmp_path / "LungCT",
        "landmarksTr/LungCT_0002_0000.csv",
        "landmarksTr/LungCT_0002_0001.csv",
        "keypointsTr/LungCT_0002_0000.csv",
    )
    pair = open_release(tiny_task("lung"), tmp_path).pair((2, 2))
    assert pair.landmarks is not None
    assert [path.name for path in pair.landmarks.paths] == [
        "LungCT_0002_0000.csv",
        "LungCT_0002_0001.csv",
    ]
    assert pair.keypoints is None  # one of the two is missing


def test_a_csv_list_in_the_folder_wins(tmp_path: Path, tiny_task: Callable[..., Task]) -> None:
    touch(tmp_path / "task_02", "training/scans/case_001_exp.nii.gz")
    (tmp_path / "task_02/pairs_val.csv").write_text("fixed, moving\n7, 7\n")
    (tmp_path / "task_02/pairs_test.csv").write_text("fixed, moving\n9, 9\n")
    release = open_release(tiny_task("lung"), tmp_path)
    assert (release.split_ids("val"), release.split_ids("test")) == ([(7, 7)], [(9, 9)])


def test_a_missing_image_keeps_the_name_that_it_should_have(
    tmp_path: Path, tiny_task: Callable[..., Task]
) -> None:
    touch(tmp_path / "task_02", "pairs_val.csv")
    pair = open_release(tiny_task("lung"), tmp_path).pair((12, 12))
    assert pair.fixed.image == tmp_path / "task_02/scans/case_012_exp.nii.gz"


def test_a_scan_that_lies_there_twice_is_refused(
    tmp_path: Path, tiny_task: Callable[..., Task]
) -> None:
    touch(tmp_path / "task_03", "plain/img0438.nii.gz", "skull_stripped/img0438.nii.gz")
    release = open_release(tiny_task("oasis"), tmp_path)
    with pytest.raises(InputError, match=r"(?s)more than once.*plain/.*skull_stripped/.*move all"):
        release.pair((438, 439))


def test_files_in_linked_folders_are_found(tmp_path: Path, tiny_task: Callable[..., Task]) -> None:
    touch(tmp_path / "store", "images/LungCT_0002_0000.nii.gz", "images/LungCT_0002_0001.nii.gz",
          "landmarks/LungCT_0002_0000.csv", "landmarks/LungCT_0002_0001.csv")  # fmt: skip
    (tmp_path / "LungCT").mkdir()
    (tmp_path / "LungCT/imagesTr").symlink_to("../store/images")
    (tmp_path / "LungCT/landmarksTr").symlink_to(tmp_path / "store/landmarks")
    (pair,) = open_release(tiny_task("lung"), tmp_path).intra_patient_pairs()
    assert pair.moving.image == tmp_path / "LungCT/imagesTr/LungCT_0002_0001.nii.gz"
    assert pair.moving.image.is_file()
    assert pair.landmarks is not None


def test_one_file_under_two_names_is_on_disk_once(
    tmp_path: Path, tiny_task: Callable[..., Task]
) -> None:
    touch(tmp_path / "task_03", "store/img0438.nii.gz", "store/img0439.nii.gz")
    (tmp_path / "task_03/linked").symlink_to("store")
    release = open_release(tiny_task("oasis"), tmp_path)
    assert relative(release, release.pair((438, 439)).fixed.image) == "linked/img0438.nii.gz"


def test_a_scan_that_a_link_puts_into_a_held_out_folder_is_held_out(
    tmp_path: Path, tiny_task: Callable[..., Task]
) -> None:
    for number, kind in ((1, "MR"), (1, "CT"), (2, "MR"), (2, "CT")):
        folder = "hidden" if number == 1 else "Train"
        touch(tmp_path / "task_01", f"{folder}/img{number:04}_tcia_{kind}.nii.gz")
    release = open_release(tiny_task("abdomen"), tmp_path)
    assert [release.is_held_out(scan) for scan in release.scans()] == [False] * 4
    (tmp_path / "task_01/x").mkdir()
    (tmp_path / "task_01/x/Test").symlink_to("../hidden")
    release = open_release(tiny_task("abdomen"), tmp_path)
    assert [release.is_held_out(scan) for scan in release.scans()] == [True, False, True, False]


def test_the_task_folder_itself_is_a_root_too(
    tmp_path: Path, tiny_task: Callable[..., Task]
) -> None:
    touch(tmp_path / "task_02", "training/scans/case_001_exp.nii.gz")
    release = open_release(tiny_task("lung"), tmp_path / "task_02")
    assert release.folder == tmp_path / "task_02"


@pytest.mark.parametrize("content", [None, "empty", "other"])
def test_a_root_without_data_says_where_to_get_it_and_what_tree_is_expected(
    tmp_path: Path, tiny_task: Callable[..., Task], content: str | None
) -> None:
    root = tmp_path / "root"
    if content is not None:
        root.mkdir()
    if content == "other":
        (root / "task_07").mkdir()
    with pytest.raises(InputError) as error:
        open_release(tiny_task("lung"), root)
    found = {None: "no such folder", "empty": "an empty folder", "other": "task_07"}[content]
    for words in ("grand-challenge.org", "task_02/.../scans/case_001_exp.nii.gz", "LungCT",
                  "data.root=", "L2REG_DATA", found):  # fmt: skip
        assert words in str(error.value)


def test_an_unknown_layout_lists_the_known_ones(
    tmp_path: Path, tiny_task: Callable[..., Task]
) -> None:
    with pytest.raises(InputError, match="auto, 2021, current"):
        open_release(tiny_task("lung"), tmp_path, layout="2022")


def test_patterns_are_filled_in_with_the_width_they_ask_for() -> None:
    assert file_name("scans/case_{id:03}_exp.nii.gz", 7) == "scans/case_007_exp.nii.gz"
    assert file_name("imagesT?/X_{id:04}_0000.nii.gz", 12) == "imagesTr/X_0012_0000.nii.gz"
