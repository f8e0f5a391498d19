import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine

from l2reg.cli.main import main
from l2reg.data.check import check_dataset, compare_headers
from l2reg.data.dataset import Dataset
from l2reg.data.header_check import compare_pairs, corner_distance_mm
from l2reg.data.pairs import Pair, Scan
from l2reg.inference.predict_split import prepare_prediction
from l2reg.phantom.make import phantom_task
from l2reg.reporting.evaluate_submissions import Evaluation, evaluate_submissions
from l2reg.submission.rules import RULES
from l2reg.training.setup import prepare_training

OpenData = Callable[..., Dataset]
SHAPE = (12, 10, 14)


@pytest.fixture
def abdomen(phantoms: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(phantoms["abdomen"], tmp_path / "copy"))


@pytest.fixture
def compare(abdomen: Path, open_data: OpenData) -> Callable[[], list]:
    task = phantom_task("abdomen", "small", 0, 3, root=abdomen)

    def run() -> list:
        data = open_data(task)
        assert check_dataset(data) == []
        return compare_headers(data)

    return run


def move(path: Path, *mm: float) -> None:
    image = nib.load(path)
    affine = image.affine.copy()
    affine[:3, 3] += mm
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), path)


def store_backwards(path: Path, axis: int) -> float:
    """Store a file backwards along an axis, as its header says; return the extent in mm."""
    image = nib.load(path)
    size = image.shape[axis]
    mirror = np.eye(4)
    mirror[axis, axis], mirror[axis, 3] = -1, size - 1
    array = np.flip(np.asarray(image.dataobj), axis)
    nib.save(nib.Nifti1Image(array, image.affine @ mirror), path)
    return float(np.linalg.norm(image.affine[:3, axis]) * (size - 1))


def test_the_distance_is_that_of_the_farthest_corner(random: np.random.Generator) -> None:
    for _ in range(5):
        first, second = np.eye(4), np.eye(4)
        first[:3], second[:3] = random.normal(size=(2, 3, 4))
        corners = list(product((0, 11), (0, 9), (0, 13)))
        apart = apply_affine(first, corners) - apply_affine(second, corners)
        expected = np.linalg.norm(apart, axis=1).max()
        assert corner_distance_mm(first, second, SHAPE) == pytest.approx(expected)


@pytest.mark.parametrize("flavour", ["lung", "abdomen", "oasis"])
def test_phantoms_have_headers_that_agree(
    phantoms: dict[str, Path], open_data: OpenData, flavour: str
) -> None:
    task = phantom_task(flavour, "small", 0, 3, root=phantoms[flavour])
    assert compare_headers(open_data(task)) == []


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_labels_stored_backwards_are_told(
    abdomen: Path, compare: Callable[[], list], axis: int
) -> None:
    path = abdomen / "task_01/Train/seg0002_tcia_MR.nii.gz"
    extent = store_backwards(path, axis)
    (warning,) = compare()
    assert warning.where == str(path)
    assert "header that disagrees" in warning.what
    assert f"up to {extent:.4g} mm" in warning.found


@pytest.mark.parametrize(("voxels", "told"), [(0.09, False), (0.11, True)])
def test_masks_agree_to_a_tenth_of_a_voxel(
    abdomen: Path, compare: Callable[[], list], voxels: float, told: bool
) -> None:
    path = abdomen / "task_01/Train/mask0004_tcia_CT.nii.gz"
    side = float(np.linalg.norm(nib.load(path).affine[:3, :3], axis=0).min())
    move(path, 0, voxels * side, 0)
    assert [warning.where for warning in compare()] == ([str(path)] if told else [])


def test_a_scan_far_from_its_partner_is_told_while_the_other_pairs_agree(
    abdomen: Path, compare: Callable[[], list]
) -> None:
    files = [
        abdomen / f"task_01/Train/{kind}0002_tcia_CT.nii.gz" for kind in ("img", "seg", "mask")
    ]
    for path in files:
        move(path, 60, 0, 80)
    (warning,) = compare()
    assert warning.where == str(files[0])
    assert "header that disagrees" in warning.what
    assert "up to 100 mm" in warning.found
    assert "img0002_tcia_MR" in warning.found


def test_warnings_of_a_kind_are_one_with_their_number_and_the_first_names(
    abdomen: Path, compare: Callable[[], list]
) -> None:
    folder = abdomen / "task_01/Train"
    masks = sorted(folder.glob("mask*.nii.gz"))
    for path in masks:
        move(path, 0, 0, 30)
    store_backwards(folder / "seg0002_tcia_MR.nii.gz", 0)
    by_kind = {warning.what: warning for warning in compare()}
    assert len(masks) > 5
    assert len(by_kind) == 2
    grouped = next(warning for what, warning in by_kind.items() if "mask" in what)
    assert grouped.where.startswith(f"{len(masks)} files (")
    assert f"and {len(masks) - 5} more" in grouped.where
    assert sum(str(path) in grouped.where for path in masks) == 5
    assert "30 mm away, for the first" in grouped.found


@pytest.mark.parametrize("command", ["evaluate", "predict", "train"])
def test_the_commands_warn_as_the_check_does(
    abdomen: Path, open_data: OpenData, tmp_path: Path, tiny_run: Callable[..., dict],
    composed: Callable[..., dict], capsys: pytest.CaptureFixture[str], command: str,
) -> None:  # fmt: skip
    task = phantom_task("abdomen", "small", 0, 3, root=abdomen)
    (pair,) = open_data(task).split_pairs("val")
    assert pair.fixed.labels is not None
    store_backwards(pair.fixed.labels, 1)
    if command == "evaluate":
        settings = Evaluation(data=open_data(task), split="val", rules=RULES["2021"],
                              out=tmp_path / "out", overwrite=False, show=[], report=False,
                              allow_missing=False, workers=1)  # fmt: skip
        evaluate_submissions({}, settings)
    elif command == "predict":
        config = composed("predict", "model=zero", "task=phantom", "device=cpu", flavour="abdomen")
        config["task"]["root"] = str(abdomen)
        prepare_prediction(config, ["model", "task", "device"])
    else:
        config = tiny_run(flavour="abdomen")
        config["task"]["root"] = str(abdomen)
        prepare_training(config)
    said = capsys.readouterr().out
    assert said.count("warning: ") == 1
    assert f"warning: {pair.fixed.labels}: has a header that disagrees" in said


def pairs_apart(folder: Path, *distances_mm: float) -> list[Pair]:
    pairs = []
    for number, distance in enumerate(distances_mm):
        images = [folder / f"{side}{number}.nii.gz" for side in ("fixed", "moving")]
        for image, shift in zip(images, (0.0, distance), strict=True):
            affine = np.diag([2.0, 3, 4, 1])
            affine[1, 3] = shift
            nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.uint8), affine), image)
        fixed, moving = (
            Scan(id=number, official_id=number, modality="CT", image=i, labels=None, mask=None)
            for i in images
        )
        pairs.append(Pair(fixed=fixed, moving=moving))
    return pairs


@pytest.mark.parametrize(
    ("distances_mm", "far"),
    [
        ((0, 0, 0, 21), [3]),  # more than five voxels of at most 4 mm
        ((0, 0, 0, 19), []),
        ((50, 50, 50, 71), [3]),  # the others agree with each other, not with zero
        ((10, 80, 35, 120, 60), []),  # every pair lies elsewhere: none is the odd one
        ((0, 0, 100, 0, 90), [2, 4]),
        ((0, 100), []),  # of two pairs none is the odd one
        ((100,), []),
        ((), []),
    ],
)
def test_a_pair_is_told_if_it_is_the_odd_one(
    tmp_path: Path, distances_mm: tuple[float, ...], far: list[int]
) -> None:
    pairs = pairs_apart(tmp_path, *distances_mm)
    warnings = compare_pairs([*pairs, *pairs])  # a pair in two splits counts once
    assert [w.where for w in warnings] == [str(tmp_path / f"moving{n}.nii.gz") for n in far]


def test_files_that_the_other_checks_refuse_are_left_to_them(tmp_path: Path) -> None:
    pairs = pairs_apart(tmp_path, 0, 0, 0, 100)
    pairs[3].moving.image.write_bytes(b"broken")
    pairs[2].moving.image.unlink()
    assert compare_pairs(pairs) == []


def test_warnings_are_printed_and_keep_the_exit_code(
    abdomen: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    move(abdomen / "task_01/Train/mask0004_tcia_CT.nii.gz", 30, 0, 0)
    main(["check", str(abdomen)])
    said = capsys.readouterr().out
    assert "warning: " in said
    assert "mask0004_tcia_CT.nii.gz: has a header that disagrees" in said
    assert said.splitlines()[-1] == "no problems, 1 warning"


@pytest.mark.data
@pytest.mark.parametrize("name", ["abdomen", "lung", "oasis"])
def test_the_headers_of_the_real_scans_agree(
    real_data: Path, open_data: OpenData, tiny_task: Callable, name: str
) -> None:
    assert compare_headers(open_data(tiny_task(name), real_data)) == []
