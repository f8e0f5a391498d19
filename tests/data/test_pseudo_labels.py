import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from l2reg.data.dataset import Dataset
from l2reg.data.pairs import Scan
from l2reg.data.pseudo_labels import PseudoLabels
from l2reg.phantom.make import phantom_task
from l2reg.problems import InputError

OpenData = Callable[..., Dataset]


def opened(open_data: OpenData, root: Path, **changes: object) -> Dataset:
    return open_data(phantom_task("oasis", "small", 0, 3, root=root), **changes)


def by_id(data: Dataset) -> dict[int, Scan]:
    return {scan.id: scan for scan in data.training_set.scans}


def test_a_scan_without_labels_gets_those_of_the_folder_and_others_keep_their_own(
    half_labelled_brains: Path, open_data: OpenData
) -> None:
    plain = by_id(opened(open_data, half_labelled_brains))
    assert plain[2].labels is None
    filled = by_id(
        opened(open_data, half_labelled_brains, pseudo_labels={"root": "given", "weight": 0.25})
    )
    assert filled[2].labels == Path("given") / filled[2].image.relative_to(
        half_labelled_brains / "task_03"
    )
    assert filled[2].label_weight == 0.25
    assert filled[1] == plain[1]
    assert filled[1].label_weight == 1


def test_a_pair_has_the_lower_label_weight_of_its_scans(
    half_labelled_brains: Path, open_data: OpenData
) -> None:
    data = opened(open_data, half_labelled_brains, pseudo_labels={"root": "given", "weight": 0.25})
    batches = data.batches("half", items=range(1), seed=0, device=torch.device("cpu"))
    for step in range(8):
        pair = batches.draw(step, 0)
        expected = 0.25 if 2 in (pair.fixed.id, pair.moving.id) else 1.0
        sample = batches[step]
        assert sample["label_weight"].tolist() == [expected]
        assert sample["fixed_labels"].any()


def test_scored_scans_get_none_though_the_folder_has_some(
    half_labelled_brains: Path, open_data: OpenData
) -> None:
    data = opened(open_data, half_labelled_brains, pseudo_labels={"root": "given", "weight": 0.25},
                  sampling={"val_images": True})  # fmt: skip
    scored = {scan.image for pair in data.split_pairs("val") for scan in (pair.fixed, pair.moving)}
    trained_on = [scan for scan in data.training_set.scans if scan.image in scored]
    assert trained_on
    assert all(
        (Path("given") / s.image.relative_to(half_labelled_brains / "task_03")).is_file()
        for s in trained_on
    )
    assert all(scan.labels is None for scan in trained_on)


def test_a_copy_of_a_scored_scan_gets_none_either(
    half_labelled_brains: Path, open_data: OpenData
) -> None:
    data = opened(open_data, half_labelled_brains)
    shutil.copy(data.split_pairs("val")[0].fixed.image, by_id(data)[2].image)
    again = opened(open_data, half_labelled_brains, pseudo_labels={"root": "given", "weight": 0.25})
    assert by_id(again)[2].labels is None


def test_a_missing_folder_and_a_weight_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match=r"(?s)root=nowhere.*propagate-labels"):
        PseudoLabels(root="nowhere", weight=0.5)
    for weight in (0.0, 1.5):
        with pytest.raises(
            ValueError, match=r"data\.pseudo_labels\.weight must be above 0 and at most 1"
        ):
            PseudoLabels(root=None, weight=weight)
