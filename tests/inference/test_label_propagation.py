from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import nibabel as nib
import numpy as np
import pytest
import torch

from l2reg.data.dataset import Dataset
from l2reg.data.pairs import Scan
from l2reg.inference.label_propagation import atlases_for, propagate_labels, vote
from l2reg.inference.method import Method
from l2reg.inference.predictor import Predictor
from l2reg.inference.prepare import training_free_method
from l2reg.io.volumes import read_affine, read_labels
from l2reg.models.zero import Zero
from l2reg.phantom.make import phantom_task
from l2reg.problems import InputError

OpenData = Callable[..., Dataset]
CPU = torch.device("cpu")
SHAPE = (5, 6, 7)


@pytest.fixture
def data(half_labelled_brains: Path, open_data: OpenData) -> Dataset:
    return open_data(phantom_task("oasis", "small", 0, 3, root=half_labelled_brains))


def still(data: Dataset) -> Predictor:
    return Predictor(Method(Zero("half")), data.reader)


def labels(value: int) -> torch.Tensor:
    return torch.full((1, 1, *SHAPE), value, dtype=torch.int16)


def test_the_majority_wins_background_included_and_the_lower_label_a_tie() -> None:
    zero = torch.zeros(1, 3, *SHAPE)
    for given, expected in (([7, 3, 7], 7), ([0, 5, 0], 0), ([9, 4], 4), ([0, 2], 0)):
        assert (vote([(labels(value), zero) for value in given]) == expected).all()


def test_a_single_atlas_gives_its_moved_labels() -> None:
    atlas = labels(0)
    atlas[..., 2:4, 3, 4] = 6
    disp = torch.zeros(1, 3, *SHAPE)
    disp[:, 0] = 1.0  # samples one voxel further along i
    won = vote([(atlas, disp)])
    assert won[0, 0].nonzero().tolist() == atlas[0, 0].roll(-1, 0).nonzero().tolist()
    assert set(won.unique().tolist()) == {0, 6}
    disp[:, 0] = 0.4  # between two voxels: the nearest label
    assert torch.equal(vote([(atlas, disp)]), atlas)


def test_atlases_of_the_same_modality_come_first() -> None:
    def scan(number: int, modality: str) -> Scan:
        return Scan(id=number, official_id=number, modality=modality, labels=Path("x"), mask=None,
                    image=Path(f"{number}.nii.gz"))  # fmt: skip

    labelled = [scan(1, "CT"), scan(4, "MR"), scan(2, "MR"), scan(3, "CT")]
    chosen = atlases_for(scan(9, "MR"), labelled, 3)
    assert [atlas.id for atlas in chosen] == [2, 4, 1]


def test_only_training_scans_without_labels_get_some_and_only_training_scans_give_them(
    data: Dataset, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    written = propagate_labels(data, still(data), out, n_atlases=9)
    folder = data.release.folder
    assert written == [out / "OASIS_OAS1_0002_MR1/aligned_norm.nii.gz"]
    assert [path for path in out.rglob("*") if path.is_file()] == written
    image = folder / "OASIS_OAS1_0002_MR1/aligned_norm.nii.gz"
    np.testing.assert_array_equal(read_affine(written[0]), read_affine(image))
    given = [folder / f"OASIS_OAS1_000{number}_MR1/aligned_seg35.nii.gz" for number in (1, 3)]
    zero = torch.zeros(1, 3, *data.task.shape)
    arrays = [torch.from_numpy(read_labels(p).astype(np.int16))[None, None] for p in given]
    expected = vote([(array, zero) for array in arrays])
    np.testing.assert_array_equal(read_labels(written[0]), expected[0, 0].numpy())


def test_files_that_are_there_are_left_so_that_a_long_job_can_go_on(
    data: Dataset, tmp_path: Path
) -> None:
    (path,) = propagate_labels(data, still(data), tmp_path / "out", n_atlases=1)
    path.write_text("mine")
    assert propagate_labels(data, still(data), tmp_path / "out", n_atlases=1) == [path]
    assert path.read_text() == "mine"


def test_a_header_without_a_valid_place_is_refused_before_the_work(
    data: Dataset, tmp_path: Path
) -> None:
    path = data.release.folder / "OASIS_OAS1_0002_MR1/aligned_norm.nii.gz"
    image = nib.load(path)
    sheared = image.affine.copy()
    sheared[0, 2] = 0.5
    bad = nib.Nifti1Image(np.asarray(image.dataobj), sheared)
    bad.set_qform(None, code=0)
    nib.save(bad, path)
    with (
        patch.object(Predictor, "register", side_effect=AssertionError("computed")),
        pytest.raises(InputError, match=r"0002_MR1/aligned_norm\.nii\.gz: has a sheared sform"),
    ):
        propagate_labels(data, still(data), tmp_path / "out", n_atlases=1)


def test_scored_scans_get_no_labels_though_their_images_are_trained_on(
    half_labelled_brains: Path, open_data: OpenData, tmp_path: Path
) -> None:
    task = phantom_task("oasis", "small", 0, 3, root=half_labelled_brains)
    data = open_data(task, sampling={"val_images": True})
    (path,) = propagate_labels(data, still(data), tmp_path / "out", n_atlases=1)
    assert "OAS1_0002" in str(path)


def test_where_there_is_nothing_to_do_the_counts_say_why(
    phantoms: dict[str, Path], open_data: OpenData
) -> None:
    for flavour, counts in (("oasis", "3 with and 0 without"), ("lung", "0 with and 4 without")):
        data = open_data(phantom_task(flavour, "small", 0, 3, root=phantoms[flavour]))
        with pytest.raises(InputError, match=counts):
            propagate_labels(data, still(data), Path("out"), n_atlases=1)


def test_the_search_without_training_labels_better_than_no_registration(
    data: Dataset, tmp_path: Path
) -> None:
    truth = read_labels(tmp_path / "given/OASIS_OAS1_0002_MR1/aligned_norm.nii.gz")

    def agreement(predictor: Predictor, out: str) -> float:
        (path,) = propagate_labels(data, predictor, tmp_path / out, n_atlases=1)
        found = nib.load(path).get_fdata()
        return float((found == truth)[truth > 0].mean())

    without = agreement(still(data), "without")
    assert (
        agreement(Predictor(training_free_method(data.task.name, CPU), data.reader), "with")
        > without + 0.1
    )
